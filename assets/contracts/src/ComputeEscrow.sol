// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

/// Who pays or is paid. `owner` is the only address money can go to; `hot` signs vouchers and relay fees.
struct Party {
    address owner;
    address hot;
}

/// One payer's newest voucher: the payer's two addresses, the cumulative amount, and an EIP-2098 signature by `hot`.
struct Claim {
    address owner;
    address hot;
    uint96 cumulative;
    bytes32 r;
    bytes32 vs;
}

/// @title Escrow for metered compute: collateral, cumulative signed vouchers, batched redemption, delayed payer exit.
/// @notice Nobody administers this contract. It can't be paused or upgraded, and money leaves it only to a party's
/// owner, or as a fee of at most a tenth of a payout to the relayer that the party's hot key named.
/// @dev The token must be a plain ERC-20: one that takes a fee on transfer, or calls back, fails the exact-amount check.
contract ComputeEscrow is EIP712, Multicall {
    using SafeERC20 for IERC20;

    struct Account {
        uint96 free; // deposited and in no lane; also backs vouchers beyond a lane's collateral
        uint96 earned; // redeemed and not yet paid out
        uint32 nonce; // of the next relay fee
    }

    struct Lane {
        uint96 reserved; // collateral for this worker alone
        uint96 redeemed; // cumulative, never lowered
        uint40 exitAt; // 0, or the time from which the collateral may go back to `free`
    }

    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 payer,bytes32 worker,uint96 cumulative)");
    bytes32 private constant RELAY_FEE_TYPEHASH =
        keccak256("RelayFee(bytes32 worker,address relayer,uint96 fee,uint32 nonce,uint40 deadline)");
    uint256 private constant LARGEST_FEE_SHARE = 10; // a fee is at most earned / 10

    IERC20 public immutable token;
    uint40 public immutable exitDelay;

    mapping(bytes32 party => Account) public accounts;
    mapping(bytes32 payer => mapping(bytes32 worker => Lane)) public lanes;

    event Deposited(bytes32 indexed party, address indexed from, uint96 amount);
    event Reserved(bytes32 indexed payer, bytes32 indexed worker, uint96 amount, uint96 reservedTotal);
    event ExitStarted(bytes32 indexed payer, bytes32 indexed worker, uint40 exitAt);
    event Released(bytes32 indexed payer, bytes32 indexed worker, uint96 amount);
    event Redeemed(bytes32 indexed payer, bytes32 indexed worker, uint96 paid, uint96 redeemedTotal);
    event PaidOut(bytes32 indexed party, address indexed owner, uint96 amount, address relayer, uint96 fee);
    event Withdrawn(bytes32 indexed party, address indexed owner, uint96 amount);

    error ZeroAddress();
    error WrongAmount();
    error NotOwnerOrHot();
    error InsufficientFree(uint96 free, uint96 wanted);
    error NothingReserved();
    error ExitPending(uint40 exitAt);
    error NoExitPending();
    error WrongSigner(uint256 index);
    error NotRelayer();
    error FeeTooHigh(uint96 fee, uint96 earned);
    error Expired(uint40 deadline);

    constructor(IERC20 token_, uint40 exitDelay_) EIP712("ComputeEscrow", "1") {
        if (address(token_) == address(0)) revert ZeroAddress();
        token = token_;
        exitDelay = exitDelay_;
    }

    // ---- a payer's money -------------------------------------------------------------------------------------

    /// Adds the caller's tokens to a party's free balance. Anyone may fund anyone.
    function deposit(Party calldata party, uint96 amount) external {
        if (party.owner == address(0) || party.hot == address(0)) revert ZeroAddress();
        bytes32 id = partyId(party.owner, party.hot);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 held = token.balanceOf(address(this));
        // The second half keeps every sum of balances within uint96, so that redeem can never overflow.
        if (held != before + amount || held > type(uint96).max) revert WrongAmount();
        accounts[id].free += amount;
        emit Deposited(id, msg.sender, amount);
    }

    /// Moves free balance into the collateral of one lane, and takes back an exit that is under way.
    function reserve(Party calldata payer, bytes32 worker, uint96 amount) external {
        bytes32 id = _authorized(payer);
        _takeFree(id, amount);
        Lane storage lane = lanes[id][worker];
        uint96 reservedTotal = lane.reserved + amount;
        lane.reserved = reservedTotal;
        lane.exitAt = 0;
        emit Reserved(id, worker, amount, reservedTotal);
    }

    /// Announces that the payer wants the lane's collateral back. The worker has `exitDelay` seconds to redeem.
    function startExit(Party calldata payer, bytes32 worker) external {
        bytes32 id = _authorized(payer);
        Lane storage lane = lanes[id][worker];
        if (lane.exitAt != 0) revert ExitPending(lane.exitAt);
        if (lane.reserved == 0) revert NothingReserved();
        uint40 exitAt = uint40(block.timestamp) + exitDelay;
        lane.exitAt = exitAt;
        emit ExitStarted(id, worker, exitAt);
    }

    /// Returns what is left of a lane's collateral to the payer's free balance, once the delay is over.
    function finishExit(bytes32 payer, bytes32 worker) external {
        Lane storage lane = lanes[payer][worker];
        uint40 exitAt = lane.exitAt;
        if (exitAt == 0) revert NoExitPending();
        if (block.timestamp < exitAt) revert ExitPending(exitAt);
        uint96 amount = lane.reserved;
        lane.reserved = 0;
        lane.exitAt = 0;
        accounts[payer].free += amount;
        emit Released(payer, worker, amount);
    }

    /// Sends free balance to the party's owner, and to nobody else.
    function withdraw(Party calldata party, uint96 amount) external {
        bytes32 id = _authorized(party);
        _takeFree(id, amount);
        emit Withdrawn(id, party.owner, amount);
        token.safeTransfer(party.owner, amount);
    }

    // ---- a worker's money ------------------------------------------------------------------------------------

    /// Credits vouchers to a worker. Anyone may call: nobody but the worker gains.
    /// A voucher that is not above what was redeemed is a no-op; one beyond the payer's funds is paid in part and
    /// stays valid for the rest.
    function redeem(bytes32 worker, Claim[] calldata claims) external {
        uint96 total;
        for (uint256 i = 0; i < claims.length; ++i) {
            total += _redeemOne(worker, claims[i], i);
        }
        if (total != 0) accounts[worker].earned += total;
    }

    /// Sends everything that a party has earned to its owner. Anyone may call.
    function payOut(Party calldata party) external {
        bytes32 id = partyId(party.owner, party.hot);
        uint96 amount = accounts[id].earned;
        if (amount == 0) return; // someone else was faster: a redeem in the same multicall must still stand
        accounts[id].earned = 0;
        emit PaidOut(id, party.owner, amount, address(0), 0);
        token.safeTransfer(party.owner, amount);
    }

    /// The same for a party without gas: its hot key names a relayer, who sends this and keeps `fee`.
    function payOutWithFee(
        Party calldata party,
        address relayer,
        uint96 fee,
        uint40 deadline,
        bytes32 r,
        bytes32 vs
    ) external {
        if (msg.sender != relayer) revert NotRelayer();
        if (block.timestamp > deadline) revert Expired(deadline);
        bytes32 id = partyId(party.owner, party.hot);
        Account storage account = accounts[id];
        uint96 amount = account.earned;
        if (uint256(fee) * LARGEST_FEE_SHARE > amount) revert FeeTooHigh(fee, amount);
        bytes32 digest = relayFeeDigest(id, relayer, fee, account.nonce, deadline);
        if (ECDSA.recover(digest, r, vs) != party.hot) revert WrongSigner(0);
        account.earned = 0;
        account.nonce += 1;
        emit PaidOut(id, party.owner, amount - fee, relayer, fee);
        token.safeTransfer(party.owner, amount - fee);
        token.safeTransfer(relayer, fee);
    }

    // ---- what clients compare their own arithmetic with ------------------------------------------------------

    function partyId(address owner, address hot) public pure returns (bytes32) {
        return keccak256(abi.encode(owner, hot));
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function voucherDigest(bytes32 payer, bytes32 worker, uint96 cumulative) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, payer, worker, cumulative)));
    }

    function relayFeeDigest(bytes32 worker, address relayer, uint96 fee, uint32 nonce, uint40 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(RELAY_FEE_TYPEHASH, worker, relayer, fee, nonce, deadline)));
    }

    // ---- private ---------------------------------------------------------------------------------------------

    function _redeemOne(bytes32 worker, Claim calldata claim, uint256 index) private returns (uint96 paid) {
        bytes32 payer = partyId(claim.owner, claim.hot);
        Lane memory lane = lanes[payer][worker];
        if (claim.cumulative <= lane.redeemed) return 0;
        bytes32 digest = voucherDigest(payer, worker, claim.cumulative);
        if (ECDSA.recover(digest, claim.r, claim.vs) != claim.hot) revert WrongSigner(index);

        uint96 owed = claim.cumulative - lane.redeemed;
        uint96 fromLane = owed < lane.reserved ? owed : lane.reserved;
        uint96 fromFree = _takeUpTo(payer, owed - fromLane);
        paid = fromLane + fromFree;
        if (paid == 0) return 0;
        lane.reserved -= fromLane;
        lane.redeemed += paid;
        lanes[payer][worker] = lane;
        emit Redeemed(payer, worker, paid, lane.redeemed);
    }

    function _takeUpTo(bytes32 party, uint96 wanted) private returns (uint96 taken) {
        if (wanted == 0) return 0;
        uint96 free = accounts[party].free;
        taken = wanted < free ? wanted : free;
        if (taken != 0) accounts[party].free = free - taken;
    }

    function _takeFree(bytes32 party, uint96 amount) private {
        uint96 free = accounts[party].free;
        if (amount > free) revert InsufficientFree(free, amount);
        accounts[party].free = free - amount;
    }

    function _authorized(Party calldata party) private view returns (bytes32) {
        if (msg.sender != party.owner && msg.sender != party.hot) revert NotOwnerOrHot();
        return partyId(party.owner, party.hot);
    }
}
