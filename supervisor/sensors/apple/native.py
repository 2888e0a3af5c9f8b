"""Calls macOS: SMC keys, IOHID services, notify and sysctl, by ctypes and without sudo.

Only this module calls it, and it decides nothing; tests pass its callers a fake.
SMC: the 80-byte structure and selector 2 of the AppleSMC user client. IOHID: page 0xff00, usage 5, event type 15.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from typing import Any

SMC_READ, SMC_KEY_AT, SMC_KEY_INFO = 5, 8, 9
MAX_SMC_KEYS, MAX_HID_SERVICES = 8192, 512
HID_PAGE, HID_USAGE, HID_TEMPERATURE = 0xFF00, 5, 15
UTF8, SINT32 = 0x08000100, 3
VOID = ctypes.c_void_p


def _library(name: str, **results: Any) -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library(name) or name)
    for function, restype in results.items():
        getattr(library, function).restype = restype
    return library


class Darwin:
    """The calls of macOS itself. Each method raises OSError, and so does making one on another system."""

    def __init__(self) -> None:
        # A pointer needs its restype: ctypes' default, an int, truncates it to 32 bits.
        self._cf = _library(
            "CoreFoundation",
            CFStringCreateWithCString=VOID, CFNumberCreate=VOID, CFDictionaryCreate=VOID, CFArrayGetValueAtIndex=VOID,
            CFArrayGetCount=ctypes.c_long, CFStringGetCString=ctypes.c_bool,
        )  # fmt: skip
        self._io = _library(
            "IOKit",
            IOServiceMatching=VOID, IOHIDEventSystemClientCreate=VOID, IOHIDEventSystemClientCopyServices=VOID,
            IOHIDServiceClientCopyProperty=VOID, IOHIDServiceClientCopyEvent=VOID,
            IOHIDEventGetFloatValue=ctypes.c_double, IOServiceGetMatchingService=ctypes.c_uint32,
        )  # fmt: skip
        self._system = _library("System")
        self._smc = self._open_smc()
        # One client for ever: WindowServer keeps the services of a released one (apple_sensors issue 2).
        self._hid = self._open_hid()
        self._pressure = ctypes.c_int()
        if self._system.notify_register_check(b"com.apple.system.thermalpressurelevel", ctypes.byref(self._pressure)):
            raise OSError("notify does not know the thermal pressure")

    def _open_smc(self) -> ctypes.c_uint32:
        matching = self._io.IOServiceMatching(b"AppleSMC")
        service = self._io.IOServiceGetMatchingService(ctypes.c_uint32(0), VOID(matching))
        connection = ctypes.c_uint32()
        task = ctypes.c_uint32.in_dll(self._system, "mach_task_self_")
        if not service or self._io.IOServiceOpen(ctypes.c_uint32(service), task, 0, ctypes.byref(connection)):
            raise OSError("the AppleSMC service cannot be opened")
        return connection

    def _call(self, command: int, key: int = 0, size: int = 0, index: int = 0) -> bytes:
        request = bytearray(80)
        struct.pack_into("=I", request, 0, key)
        struct.pack_into("=I", request, 28, size)
        struct.pack_into("=B", request, 42, command)
        struct.pack_into("=I", request, 44, index)
        reply, length = ctypes.create_string_buffer(80), ctypes.c_size_t(80)
        code = self._io.IOConnectCallStructMethod(
            self._smc, ctypes.c_uint32(2), bytes(request), ctypes.c_size_t(80), reply, ctypes.byref(length)
        )
        if code != 0 or reply.raw[40] != 0:
            raise OSError(f"SMC says {code:#x}, result {reply.raw[40]}")
        return reply.raw

    def smc_keys(self) -> list[str]:
        """Return all keys."""
        count = int.from_bytes(self.smc_read("#KEY")[1][:4], "big")
        keys = (self._call(SMC_KEY_AT, index=index)[0:4][::-1] for index in range(min(count, MAX_SMC_KEYS)))
        return [key.decode("ascii", "replace") for key in keys]

    def smc_read(self, key: str) -> tuple[str, bytes]:
        """Return a key's type ("flt ", "ui8 ", ...) and its raw bytes."""
        number = int.from_bytes(key.encode("ascii"), "big")
        info = self._call(SMC_KEY_INFO, key=number)
        size, kind = struct.unpack_from("=I", info, 28)[0], info[32:36][::-1].decode("ascii", "replace")
        return kind, self._call(SMC_READ, key=number, size=size)[48 : 48 + min(size, 32)]

    def _string(self, text: bytes) -> int:
        return int(self._cf.CFStringCreateWithCString(None, text, ctypes.c_uint32(UTF8)))

    def _open_hid(self) -> int:
        client = self._io.IOHIDEventSystemClientCreate(None)
        keys = (VOID * 2)(self._string(b"PrimaryUsagePage"), self._string(b"PrimaryUsage"))
        numbers = (ctypes.c_int32 * 2)(HID_PAGE, HID_USAGE)
        width = ctypes.sizeof(ctypes.c_int32)
        values = (VOID * 2)(
            *(self._cf.CFNumberCreate(None, ctypes.c_long(SINT32), ctypes.byref(numbers, i * width)) for i in (0, 1))
        )
        calls = (
            ctypes.addressof(ctypes.c_char.in_dll(self._cf, f"kCFTypeDictionary{part}CallBacks"))
            for part in ("Key", "Value")
        )
        matching = self._cf.CFDictionaryCreate(None, keys, values, ctypes.c_long(2), *(VOID(call) for call in calls))
        if not client or not matching:
            raise OSError("the IOHID event system cannot be opened")
        self._io.IOHIDEventSystemClientSetMatching(VOID(client), VOID(matching))
        self._product = self._string(b"Product")
        return int(client)

    def hid_temperatures(self) -> list[tuple[str, float]]:
        """Return product name and degrees Celsius of each service, in a stable order; names repeat."""
        services = self._io.IOHIDEventSystemClientCopyServices(VOID(self._hid))
        if not services:
            return []
        count = min(self._cf.CFArrayGetCount(VOID(services)), MAX_HID_SERVICES)
        try:
            found = [
                self._hid_one(self._cf.CFArrayGetValueAtIndex(VOID(services), ctypes.c_long(i))) for i in range(count)
            ]
        finally:
            self._cf.CFRelease(VOID(services))
        return [pair for pair in found if pair is not None]

    def _hid_one(self, service: int) -> tuple[str, float] | None:
        name = self._io.IOHIDServiceClientCopyProperty(VOID(service), VOID(self._product))
        if not name:
            return None
        text = ctypes.create_string_buffer(128)
        known = self._cf.CFStringGetCString(VOID(name), text, ctypes.c_long(128), ctypes.c_uint32(UTF8))
        self._cf.CFRelease(VOID(name))
        event = self._io.IOHIDServiceClientCopyEvent(
            VOID(service), ctypes.c_int64(HID_TEMPERATURE), ctypes.c_int32(0), ctypes.c_int64(0)
        )
        if not event or not known:
            return None
        celsius = self._io.IOHIDEventGetFloatValue(VOID(event), ctypes.c_int32(HID_TEMPERATURE << 16))
        self._cf.CFRelease(VOID(event))
        return text.value.decode("utf-8", "replace"), float(celsius)

    def thermal_pressure(self) -> int:
        """Return 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping (OSThermalNotification.h)."""
        state = ctypes.c_uint64()
        if self._system.notify_get_state(self._pressure, ctypes.byref(state)):
            raise OSError("notify_get_state failed")
        return state.value

    def memory_pressure(self) -> int:
        """Return 1 normal, 2 warning, 4 critical (kern.memorystatus_vm_pressure_level)."""
        level, size = ctypes.c_int32(), ctypes.c_size_t(4)
        name = b"kern.memorystatus_vm_pressure_level"
        if self._system.sysctlbyname(name, ctypes.byref(level), ctypes.byref(size), None, ctypes.c_size_t(0)):
            raise OSError("sysctlbyname failed")
        return level.value
