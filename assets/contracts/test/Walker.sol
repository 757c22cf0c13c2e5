// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeEscrow, Party, Claim} from "../src/ComputeEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {vm, bound, check} from "./Vm.sol";

/// Walks the escrow at random with three parties, each payer and worker of all (itself too), and keeps its own books.
/// No step may revert: every amount is bounded to what the contract promises to accept.
contract Walker {
    uint256 public constant PARTIES = 3;
    address public constant RELAYER = address(0xFEE);
    address public constant STRANGER = address(0xBAD);

    struct Seen {
        uint96[3] free;
        uint96[3] earned;
        uint32[3] nonce;
        uint256[3] ownerBalance;
        uint96[3][3] reserved;
        uint96[3][3] redeemed;
        uint40[3][3] exitAt;
    }

    ComputeEscrow public immutable escrow;
    TestToken public immutable token;
    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public paidOut;
    uint256 public fees;
    mapping(uint256 payer => mapping(uint256 worker => uint96)) public highestSigned;
    mapping(bytes4 step => uint256) public effective;
    bytes[] private calls;

    constructor(ComputeEscrow escrow_, TestToken token_) {
        escrow = escrow_;
        token = token_;
        token.approve(address(escrow), type(uint256).max);
    }

    // ---- steps -----------------------------------------------------------------------------------------------

    function deposit(uint256 p, uint96 amount) external {
        p %= PARTIES;
        amount = uint96(bound(amount, 0, 1e15));
        token.mint(address(this), amount);
        escrow.deposit(party(p), amount);
        deposited += amount;
        effective[this.deposit.selector] += 1;
    }

    function reserve(uint256 p, uint256 w, uint96 amount, bool byHot) external {
        (p, w) = (p % PARTIES, w % PARTIES);
        Seen memory before = look();
        amount = uint96(bound(amount, 0, before.free[p]));
        _as(p, byHot, abi.encodeCall(escrow.reserve, (party(p), id(w), amount)));
        before.free[p] -= amount; // I6: lowered here, and nowhere else
        _checkStep(before, p, w, amount != 0);
        effective[this.reserve.selector] += 1;
    }

    function startExit(uint256 p, uint256 w, bool byHot) external {
        (p, w) = (p % PARTIES, w % PARTIES);
        Seen memory before = look();
        if (before.exitAt[p][w] != 0 || before.reserved[p][w] == 0) return;
        _as(p, byHot, abi.encodeCall(escrow.startExit, (party(p), id(w))));
        _checkStep(before, p, w, false);
        (,, uint40 exitAt) = escrow.lanes(id(p), id(w));
        check(exitAt == block.timestamp + escrow.exitDelay(), "I7: the worker has the whole delay");
        effective[this.startExit.selector] += 1;
    }

    function finishExit(uint256 p, uint256 w, uint40 later) external {
        (p, w) = (p % PARTIES, w % PARTIES);
        vm.warp(block.timestamp + bound(later, 0, 2 days));
        Seen memory before = look();
        if (before.exitAt[p][w] == 0 || block.timestamp < before.exitAt[p][w]) return;
        vm.prank(STRANGER);
        escrow.finishExit(id(p), id(w));
        Seen memory later_ = look();
        check(later_.free[p] == before.free[p] + before.reserved[p][w], "the leftover goes to free");
        effective[this.finishExit.selector] += 1;
    }

    function withdraw(uint256 p, uint96 amount, bool byHot) external {
        p %= PARTIES;
        Seen memory before = look();
        amount = uint96(bound(amount, 0, before.free[p]));
        _as(p, byHot, abi.encodeCall(escrow.withdraw, (party(p), amount)));
        before.free[p] -= amount;
        _checkStep(before, p, p, false);
        withdrawn += amount;
        effective[this.withdraw.selector] += 1;
    }

    function redeem(uint256 p, uint256 w, uint96 more, bool old) external {
        (p, w) = (p % PARTIES, w % PARTIES);
        uint96 cumulative = highestSigned[p][w];
        if (old) {
            cumulative = uint96(bound(more, 0, cumulative));
        } else {
            cumulative += uint96(bound(more, 0, 1e15));
            highestSigned[p][w] = cumulative;
        }
        Seen memory before = look();
        Claim[] memory claims = new Claim[](1);
        claims[0] = claim(p, w, cumulative);
        bytes memory call = abi.encodeCall(escrow.redeem, (id(w), claims));
        calls.push(call);
        _send(STRANGER, call);
        _checkRedeem(before, p, w, cumulative);
        effective[this.redeem.selector] += 1;
    }

    function payOut(uint256 w) external {
        w %= PARTIES;
        Seen memory before = look();
        bytes memory call = abi.encodeCall(escrow.payOut, (party(w)));
        calls.push(call);
        _send(STRANGER, call);
        check(token.balanceOf(party(w).owner) == before.ownerBalance[w] + before.earned[w], "I5: to the owner");
        paidOut += before.earned[w];
        effective[this.payOut.selector] += 1;
    }

    function payOutWithFee(uint256 w, uint96 fee) external {
        w %= PARTIES;
        Seen memory before = look();
        fee = uint96(bound(fee, 0, before.earned[w] / 10));
        uint40 deadline = uint40(block.timestamp + 1);
        (bytes32 r, bytes32 vs) =
            vm.signCompact(hotKey(w), escrow.relayFeeDigest(id(w), RELAYER, fee, before.nonce[w], deadline));
        bytes memory call = abi.encodeCall(escrow.payOutWithFee, (party(w), RELAYER, fee, deadline, r, vs));
        calls.push(call);
        _send(RELAYER, call);
        check(look().nonce[w] == before.nonce[w] + 1, "I10: the nonce rises by one");
        paidOut += before.earned[w];
        fees += fee;
        effective[this.payOutWithFee.selector] += 1;
    }

    /// I8: anyone may send any old call again.
    function replay(uint256 which) external {
        if (calls.length == 0) return;
        Seen memory before = look();
        vm.prank(STRANGER);
        (bool sent,) = address(escrow).call(calls[which % calls.length]);
        Seen memory later = look();
        for (uint256 i = 0; i < PARTIES; ++i) {
            uint256 worth = before.earned[i] + before.ownerBalance[i];
            check(later.earned[i] + later.ownerBalance[i] >= worth, "I8: a replay takes nothing from anyone");
            paidOut += later.ownerBalance[i] - before.ownerBalance[i];
        }
        if (sent) effective[this.replay.selector] += 1;
    }

    // ---- what the laws look at -------------------------------------------------------------------------------

    function hotKey(uint256 p) public pure returns (uint256) {
        return 0xA11CE + p;
    }

    function party(uint256 p) public pure returns (Party memory) {
        return Party(address(uint160(0xC01D0000 + p)), vm.addr(hotKey(p)));
    }

    function id(uint256 p) public view returns (bytes32) {
        return escrow.partyId(party(p).owner, party(p).hot);
    }

    function claim(uint256 p, uint256 w, uint96 cumulative) public view returns (Claim memory) {
        (bytes32 r, bytes32 vs) = vm.signCompact(hotKey(p), escrow.voucherDigest(id(p), id(w), cumulative));
        return Claim(party(p).owner, party(p).hot, cumulative, r, vs);
    }

    function look() public view returns (Seen memory seen) {
        for (uint256 p = 0; p < PARTIES; ++p) {
            (seen.free[p], seen.earned[p], seen.nonce[p]) = escrow.accounts(id(p));
            seen.ownerBalance[p] = token.balanceOf(party(p).owner);
            for (uint256 w = 0; w < PARTIES; ++w) {
                (seen.reserved[p][w], seen.redeemed[p][w], seen.exitAt[p][w]) = escrow.lanes(id(p), id(w));
            }
        }
    }

    // ---- private ---------------------------------------------------------------------------------------------

    function _as(uint256 p, bool byHot, bytes memory call) private {
        _send(byHot ? party(p).hot : party(p).owner, call);
        calls.push(call);
    }

    function _send(address sender, bytes memory call) private {
        vm.prank(sender);
        (bool sent,) = address(escrow).call(call);
        check(sent, "a bounded step never reverts");
    }

    /// I6, I7: after a payer's own step everyone's free is as expected and no lane lost collateral.
    function _checkStep(Seen memory expected, uint256 p, uint256 w, bool mayRise) private view {
        Seen memory later = look();
        for (uint256 i = 0; i < PARTIES; ++i) {
            check(later.free[i] == expected.free[i], "I6: free moves as the owner or hot said");
            for (uint256 j = 0; j < PARTIES; ++j) {
                bool own = mayRise && i == p && j == w;
                uint96 kept = expected.reserved[i][j];
                check(own ? later.reserved[i][j] > kept : later.reserved[i][j] == kept, "I7: collateral stays");
            }
        }
    }

    function _checkRedeem(Seen memory before, uint256 p, uint256 w, uint96 cumulative) private view {
        Seen memory later = look();
        uint96 owed = cumulative > before.redeemed[p][w] ? cumulative - before.redeemed[p][w] : 0;
        uint96 funds = before.reserved[p][w] + before.free[p];
        uint96 paid = owed < funds ? owed : funds;
        check(later.redeemed[p][w] == before.redeemed[p][w] + paid, "I4: redeemed rises by what was paid");
        check(later.earned[w] == before.earned[w] + paid, "I4: the worker earns what was paid");
        check(later.reserved[p][w] + later.free[p] == funds - paid, "I6: only the signer pays");
    }
}
