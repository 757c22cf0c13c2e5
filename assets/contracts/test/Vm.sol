// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The few forge cheat codes that these tests use.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function signCompact(uint256 key, bytes32 digest) external pure returns (bytes32 r, bytes32 vs);
    function prank(address sender) external;
    function warp(uint256 time) external;
    function assume(bool condition) external pure;
    function expectRevert() external;
    function expectRevert(bytes calldata reason) external;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

function bound(uint256 x, uint256 low, uint256 high) pure returns (uint256) {
    return low + (x % (high - low + 1));
}

function check(bool holds, string memory law) pure {
    require(holds, law);
}
