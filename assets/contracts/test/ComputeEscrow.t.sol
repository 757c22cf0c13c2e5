// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeEscrow, Party, Claim} from "../src/ComputeEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Walker} from "./Walker.sol";
import {vm, bound, check} from "./Vm.sol";

contract ComputeEscrowTest {
    uint40 private constant DELAY = 1 days;
    TestToken private token;
    ComputeEscrow private escrow;
    Walker private cast; // for its parties and their signatures only

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new TestToken();
        escrow = new ComputeEscrow(token, DELAY);
        cast = new Walker(escrow, token);
        token.approve(address(escrow), type(uint256).max);
    }

    function test_deposit_needs_the_exact_amount_and_a_party() public {
        _fund(0, 100);
        check(_free(0) == 100, "credited");
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.ZeroAddress.selector));
        escrow.deposit(Party(address(0), address(1)), 1);
        ComputeEscrow unpaid = new ComputeEscrow(new TollToken(), DELAY);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.WrongAmount.selector));
        unpaid.deposit(Party(address(1), address(2)), 100);
    }

    function test_total_held_stays_within_uint96() public {
        _fund(0, type(uint96).max);
        token.mint(address(this), 1);
        Party memory party = cast.party(1);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.WrongAmount.selector));
        escrow.deposit(party, 1);
    }

    function test_only_owner_or_hot_moves_a_payers_money() public {
        _fund(0, 100);
        Party memory party = cast.party(0);
        bytes32 worker = cast.id(1);
        bytes memory refusal = abi.encodeWithSelector(ComputeEscrow.NotOwnerOrHot.selector);
        vm.expectRevert(refusal);
        escrow.reserve(party, worker, 1);
        vm.expectRevert(refusal);
        escrow.startExit(party, worker);
        vm.expectRevert(refusal);
        escrow.withdraw(party, 1);
        vm.prank(party.hot);
        escrow.reserve(party, worker, 60);
        vm.prank(party.hot);
        escrow.withdraw(party, 40);
        check(token.balanceOf(party.owner) == 40, "hot can only send to owner");
    }

    function test_nobody_spends_more_than_free() public {
        _fund(0, 100);
        Party memory party = cast.party(0);
        bytes32 worker = cast.id(1);
        bytes memory refusal = abi.encodeWithSelector(ComputeEscrow.InsufficientFree.selector, 100, 101);
        vm.expectRevert(refusal);
        vm.prank(party.owner);
        escrow.reserve(party, worker, 101);
        vm.expectRevert(refusal);
        vm.prank(party.owner);
        escrow.withdraw(party, 101);
    }

    function test_exit_waits_and_reserve_takes_it_back() public {
        _fund(0, 100);
        Party memory party = cast.party(0);
        (bytes32 payer, bytes32 worker) = (cast.id(0), cast.id(1));
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.NoExitPending.selector));
        escrow.finishExit(payer, worker);
        vm.prank(party.owner);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.NothingReserved.selector));
        escrow.startExit(party, worker);
        _reserve(0, 1, 100);
        vm.prank(party.owner);
        escrow.startExit(party, worker);
        uint40 exitAt = uint40(block.timestamp) + DELAY;
        vm.warp(exitAt - 1);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.ExitPending.selector, exitAt));
        escrow.finishExit(payer, worker);
        _reserve(0, 1, 0);
        vm.warp(exitAt);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.NoExitPending.selector));
        escrow.finishExit(payer, worker);
    }

    function test_redeem_refuses_what_hot_did_not_sign() public {
        _fund(0, 100);
        bytes32 worker = cast.id(1);
        Claim[] memory claims = new Claim[](1);
        claims[0] = _claim(0, 1, 10);
        claims[0].cumulative = 11;
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.WrongSigner.selector, 0));
        escrow.redeem(worker, claims);
        claims[0] = _claim(0, 2, 10); // signed for another worker
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.WrongSigner.selector, 0));
        escrow.redeem(worker, claims);
    }

    function testFuzz_a_voucher_beyond_the_funds_is_paid_in_part_and_never_dies(uint96 owed, uint96 funds) public {
        owed = uint96(bound(owed, 1, 1e27));
        funds = uint96(bound(funds, 0, 1e27));
        _fund(0, funds);
        _reserve(0, 1, funds / 3);
        _redeem(0, 1, owed);
        uint96 first = owed < funds ? owed : funds;
        check(_earned(1) == first, "what there is");
        _fund(0, owed);
        _redeem(0, 1, owed);
        check(_earned(1) == owed, "the rest, once there are funds");
        _redeem(0, 1, owed);
        check(_earned(1) == owed, "and nothing twice");
    }

    function testFuzz_I9_the_order_of_vouchers_does_not_matter(uint96[4] memory amounts, uint96 funds, uint8 shift) public {
        funds = uint96(bound(funds, 0, 4e15));
        _fund(0, funds);
        _reserve(0, 1, funds / 2);
        uint96 highest;
        for (uint256 i = 0; i < 4; ++i) {
            uint96 cumulative = uint96(bound(amounts[(i + shift) % 4], 1, 4e15));
            if (cumulative > highest) highest = cumulative;
            _redeem(0, 1, cumulative);
        }
        check(_earned(1) == (highest < funds ? highest : funds), "I9");
    }

    function testFuzz_a_batch_equals_its_claims_one_by_one(uint96 a, uint96 b) public {
        (a, b) = (uint96(bound(a, 1, 1e15)), uint96(bound(b, 1, 1e15)));
        _fund(0, 1e15);
        _fund(2, 1e14);
        Claim[] memory claims = new Claim[](3);
        (claims[0], claims[1], claims[2]) = (_claim(0, 1, a), _claim(2, 1, b), _claim(0, 1, a));
        escrow.redeem(cast.id(1), claims);
        check(_earned(1) == a + (b < 1e14 ? b : 1e14), "sum");
    }

    function test_fee_needs_hot_a_deadline_a_share_and_its_relayer() public {
        _fund(0, 1000);
        _redeem(0, 1, 1000);
        uint40 deadline = uint40(block.timestamp);
        Party memory party = cast.party(1);
        (bytes32 r, bytes32 vs) =
            vm.signCompact(cast.hotKey(1), escrow.relayFeeDigest(cast.id(1), address(this), 100, 0, deadline));
        vm.prank(address(0xBAD));
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.NotRelayer.selector));
        escrow.payOutWithFee(party, address(this), 100, deadline, r, vs);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.FeeTooHigh.selector, 101, 1000));
        escrow.payOutWithFee(party, address(this), 101, deadline, r, vs);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.WrongSigner.selector, 0));
        escrow.payOutWithFee(party, address(this), 99, deadline, r, vs);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(ComputeEscrow.Expired.selector, deadline));
        escrow.payOutWithFee(party, address(this), 100, deadline, r, vs);
        vm.warp(deadline);
        escrow.payOutWithFee(party, address(this), 100, deadline, r, vs);
        check(token.balanceOf(party.owner) == 900 && token.balanceOf(address(this)) == 100, "split");
        _redeem(2, 1, 0);
        vm.expectRevert(); // the same signature again: nothing is earned, and the nonce moved on
        escrow.payOutWithFee(party, address(this), 100, deadline, r, vs);
    }

    function test_multicall_redeems_and_pays_out_even_after_a_faster_payout() public {
        _fund(0, 1000);
        Claim[] memory claims = new Claim[](1);
        claims[0] = _claim(0, 1, 700);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(escrow.redeem, (cast.id(1), claims));
        calls[1] = abi.encodeCall(escrow.payOut, (cast.party(1)));
        escrow.multicall(calls);
        check(token.balanceOf(cast.party(1).owner) == 700, "paid");
        escrow.multicall(calls);
        check(token.balanceOf(cast.party(1).owner) == 700, "a replay is a no-op");
    }

    // ---- private ---------------------------------------------------------------------------------------------

    function _fund(uint256 p, uint96 amount) private {
        token.mint(address(this), amount);
        escrow.deposit(cast.party(p), amount);
    }

    function _reserve(uint256 p, uint256 w, uint96 amount) private {
        Party memory party = cast.party(p);
        bytes32 worker = cast.id(w);
        vm.prank(party.owner);
        escrow.reserve(party, worker, amount);
    }

    function _redeem(uint256 p, uint256 w, uint96 cumulative) private {
        Claim[] memory claims = new Claim[](1);
        claims[0] = _claim(p, w, cumulative);
        escrow.redeem(cast.id(w), claims);
    }

    function _claim(uint256 p, uint256 w, uint96 cumulative) private view returns (Claim memory) {
        return cast.claim(p, w, cumulative);
    }

    function _free(uint256 p) private view returns (uint96 free) {
        (free,,) = escrow.accounts(cast.id(p));
    }

    function _earned(uint256 p) private view returns (uint96 earned) {
        (, earned,) = escrow.accounts(cast.id(p));
    }
}

/// A token that keeps a toll of every transfer.
contract TollToken is TestToken {
    function transferFrom(address, address to, uint256 amount) public override returns (bool) {
        _mint(to, amount - 1);
        return true;
    }
}
