// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeEscrow} from "../src/ComputeEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Walker} from "./Walker.sol";
import {check} from "./Vm.sol";

/// The laws I1 to I5 after every step of a random walk; I6 to I8 and I10 are checked inside the steps, I9 in the unit
/// tests. foundry.toml sets fail_on_revert, so that no step can pass by reverting.
contract InvariantsTest {
    ComputeEscrow private escrow;
    TestToken private token;
    Walker private walker;

    function setUp() public {
        token = new TestToken();
        escrow = new ComputeEscrow(token, 1 days);
        walker = new Walker(escrow, token);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(walker);
    }

    function invariant_I1_I2_every_token_is_accounted_for() public view {
        Walker.Seen memory seen = walker.look();
        uint256 held;
        for (uint256 p = 0; p < 3; ++p) {
            held += uint256(seen.free[p]) + seen.earned[p];
            for (uint256 w = 0; w < 3; ++w) {
                held += seen.reserved[p][w];
            }
        }
        check(token.balanceOf(address(escrow)) == held, "I1");
        check(walker.deposited() == held + walker.withdrawn() + walker.paidOut(), "I2");
    }

    function invariant_I3_I4_no_more_is_redeemed_than_was_signed() public view {
        Walker.Seen memory seen = walker.look();
        uint256 redeemed;
        uint256 earned;
        for (uint256 p = 0; p < 3; ++p) {
            earned += seen.earned[p];
            for (uint256 w = 0; w < 3; ++w) {
                check(seen.redeemed[p][w] <= walker.highestSigned(p, w), "I3");
                redeemed += seen.redeemed[p][w];
            }
        }
        check(redeemed == earned + walker.paidOut(), "I4");
    }

    function invariant_I5_money_leaves_only_to_owners_and_named_relayers() public view {
        uint256 owners;
        for (uint256 p = 0; p < 3; ++p) {
            owners += token.balanceOf(walker.party(p).owner);
        }
        check(owners + walker.fees() == walker.withdrawn() + walker.paidOut(), "I5 owners");
        check(token.balanceOf(walker.RELAYER()) == walker.fees(), "I5 relayer");
        check(walker.fees() * 10 <= walker.paidOut(), "I5 share");
    }

    /// A walk in which every step has an effect: what the random walks do isn't a row of no-ops.
    function test_every_step_can_take_effect() public {
        walker.deposit(0, 1000);
        walker.reserve(0, 1, 600, true);
        walker.startExit(0, 1, false);
        walker.redeem(0, 1, 500, false);
        walker.finishExit(0, 1, 2 days);
        walker.payOutWithFee(1, 50);
        walker.redeem(0, 1, 100, false);
        walker.replay(2);
        walker.payOut(1);
        walker.withdraw(0, 400, true);
        bytes4[9] memory steps = [
            walker.deposit.selector,
            walker.reserve.selector,
            walker.startExit.selector,
            walker.finishExit.selector,
            walker.redeem.selector,
            walker.payOutWithFee.selector,
            walker.replay.selector,
            walker.payOut.selector,
            walker.withdraw.selector
        ];
        for (uint256 i = 0; i < steps.length; ++i) {
            check(walker.effective(steps[i]) > 0, "a step had no effect");
        }
        invariant_I1_I2_every_token_is_accounted_for();
        invariant_I3_I4_no_more_is_redeemed_than_was_signed();
        invariant_I5_money_leaves_only_to_owners_and_named_relayers();
    }
}
