"""The filter of system calls, run by a small interpreter of its program, as the kernel would."""

from __future__ import annotations

import struct

import pytest

from teachgrade import seccomp

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
MACHINES = sorted(seccomp.NUMBERS)
machines = pytest.mark.parametrize("machine", MACHINES)
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE, SOCKET = {"x86_64": 56, "aarch64": 220}, {"x86_64": 41, "aarch64": 198}


def answer(machine, number, argument=0, architecture=None, flags=0):
    """What the filter says to a system call."""
    data = struct.pack("<IIQQQQQ", number, architecture or ARCHITECTURE[machine], 0, argument, 0, 0, flags)
    program = seccomp.program(machine)
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
            continue
        if code == 0x54:
            value &= operand
            continue
        holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
        at += yes if holds else no


@machines
def test_what_is_named_is_refused_and_nothing_else(machine):
    assert len(seccomp.NUMBERS[machine]) == len(seccomp.NAMES)
    refused = {number for number in range(500) if answer(machine, number) == EPERM}
    assert refused == {*seccomp.NUMBERS[machine], SOCKET[machine]}
    families = {family for family in range(50) if answer(machine, SOCKET[machine], family) == ALLOW}
    assert families == {1, 2, 10}  # no AF_VSOCK, no AF_NETLINK, no AF_PACKET


@machines
def test_clone_may_start_threads_and_processes_and_no_namespace(machine):
    assert answer(machine, CLONE[machine], 0x3D0F00) == ALLOW  # a thread
    assert answer(machine, CLONE[machine], 17) == ALLOW  # fork
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, CLONE[machine], flag | 17) == EPERM
    assert answer(machine, 435) == ENOSYS


@machines
def test_memory_is_private_or_has_a_file(machine):
    mmap = {"x86_64": 9, "aarch64": 222}[machine]
    assert answer(machine, mmap, flags=0x22) == ALLOW  # private, anonymous: any allocation
    assert answer(machine, mmap, flags=0x01) == ALLOW  # a file
    assert answer(machine, mmap, flags=0x21) == EPERM


@machines
def test_other_tables_of_calls_are_refused(machine):
    assert answer(machine, 0, architecture=0x40000003) == EPERM
    assert answer(machine, 0x40000000 + 1) == EPERM


def test_a_machine_without_a_filter():
    assert seccomp.program("riscv64") is None
