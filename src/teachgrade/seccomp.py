"""System calls that no lab needs, refused by the kernel: a filter for bubblewrap, as the bytes of a BPF
program.

What is refused is of three kinds: memory that no watch can see (memfd, System V's), ways to other processes
and into the kernel (ptrace, bpf, perf, io_uring, keys), and namespaces of one's own, in which more of the
kernel can be reached.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers are those of the kernel's tables.
"""

from __future__ import annotations

import platform
import struct

# In the order of NAMES, by machine.
NAMES = (
    "ptrace", "process_vm_readv", "process_vm_writev", "unshare", "setns", "mount", "umount2",
    "pivot_root", "chroot", "memfd_create", "memfd_secret", "shmget", "shmat", "semget", "msgget", "bpf",
    "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "io_uring_setup",
    "io_uring_enter", "io_uring_register", "kexec_load", "init_module", "finit_module",
    "delete_module", "name_to_handle_at", "open_by_handle_at", "open_tree", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "mount_setattr",
)  # fmt: skip
_COMMON = (425, 426, 427), (428, 429, 430, 431, 432, 433, 442)
NUMBERS = {
    "x86_64": (101, 310, 311, 272, 308, 165, 166, 155, 161, 319, 447, 29, 30, 64, 68, 321, 298, 323,
               250, 248, 249, *_COMMON[0], 246, 175, 313, 176, 303, 304, *_COMMON[1]),
    "aarch64": (117, 270, 271, 97, 268, 40, 39, 41, 51, 279, 447, 194, 196, 190, 186, 280, 241, 282,
                219, 217, 218, *_COMMON[0], 104, 105, 273, 106, 264, 265, *_COMMON[1]),
}  # fmt: skip
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_MMAP = {"x86_64": 9, "aarch64": 222}
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED, MAP_ANONYMOUS
_SOCKET = {"x86_64": 41, "aarch64": 198}
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_X32 = 0x40000000  # x86_64's second table: the same calls under other numbers

_LOAD, _AND, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT, _AT_FOURTH_ARGUMENT = 0, 4, 16, 40
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


def program(machine: str | None = None) -> bytes | None:
    """The filter for this machine; None: there is none for its kind."""
    machine = machine or platform.machine()
    if machine not in NUMBERS:
        return None
    lines = [
        _line(_LOAD, _AT_ARCHITECTURE),
        _line(_EQUAL, _ARCHITECTURE[machine], yes=1),
        _line(_RETURN, _EPERM),
        _line(_LOAD, _AT_NUMBER),
        *_if(_AT_LEAST, _X32, _EPERM),
        # glibc falls back to clone, whose flags can be read here; those of clone3 cannot.
        *_if(_EQUAL, _CLONE3, _ENOSYS),
    ]
    for number in NUMBERS[machine]:
        lines += _if(_EQUAL, number, _EPERM)
    lines += [
        # Sockets of families that a network namespace holds; others reach the machine around this one.
        _line(_EQUAL, _SOCKET[machine], no=6),
        _line(_LOAD, _AT_FIRST_ARGUMENT),
        *(_line(_EQUAL, family, yes=3 - at) for at, family in enumerate(_FAMILIES)),
        _line(_RETURN, _EPERM),
        _line(_RETURN, _ALLOW),
        # Memory that is shared and has no file need not be resident to be taken.
        _line(_EQUAL, _MMAP[machine], no=5),
        _line(_LOAD, _AT_FOURTH_ARGUMENT),
        _line(_AND, _SHARED_ANONYMOUS),
        *_if(_EQUAL, _SHARED_ANONYMOUS, _EPERM),
        _line(_RETURN, _ALLOW),
        _line(_EQUAL, _CLONE[machine], no=3),
        _line(_LOAD, _AT_FIRST_ARGUMENT),
        *_if(_HAS_BITS, _NEW_NAMESPACES, _EPERM),
        _line(_RETURN, _ALLOW),
    ]
    return b"".join(lines)


def _line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; yes, no: how many to pass over."""
    return struct.pack("<HBBI", code, yes, no, value)


def _if(code: int, value: int, answer: int) -> list[bytes]:
    return [_line(code, value, no=1), _line(_RETURN, answer)]
