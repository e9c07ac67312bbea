#include "conformance/guest_tables.h"

#include <array>
#include <cstring>
#include <span>

#include "conformance/trial.h"

namespace limen::conformance {
namespace {

using memory::GuestMemory;

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;

// The GDT of 64-bit Linux (arch/x86/include/asm/segment.h): what LAR, LSL, far transfers and
// segment loads of a program can see.
constexpr std::array<uint64_t, 16> kDescriptors = {
    0,
    0x00CF'9B00'0000'FFFF,  // kernel code, 32-bit
    0x00AF'9B00'0000'FFFF,  // kernel code
    0x00CF'9300'0000'FFFF,  // kernel data
    0x00CF'FB00'0000'FFFF,  // user code, 32-bit
    0x00CF'F300'0000'FFFF,  // user data
    0x00AF'FB00'0000'FFFF,  // user code
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0x0040'F500'0000'0000,  // processor number
};

Result<> put(GuestMemory& ram, uint64_t address, const void* data, size_t size) {
  return ram.write({address}, {static_cast<const std::byte*>(data), size});
}
Result<> put(GuestMemory& ram, uint64_t address, uint64_t value) {
  return put(ram, address, &value, sizeof value);
}

Result<> map_user_page(GuestMemory& ram, uint64_t linear, uint64_t physical, uint64_t flags) {
  constexpr uint64_t kLowPageTable = 0x4000;
  return put(ram, kLowPageTable + (linear >> 12 & 511) * 8, physical | flags | kPresent | kUser);
}

Result<> write_page_tables(GuestMemory& ram) {
  constexpr uint64_t kTable = kPresent | kWritable | kUser;
  // Program: one table of 4 KiB pages from kCodeAddress on.
  LIMEN_TRY(put(ram, kPageTableRoot, 0x2000 | kTable));
  LIMEN_TRY(put(ram, 0x2000 + (kCodeAddress >> 30) * 8, 0x3000 | kTable));
  LIMEN_TRY(put(ram, 0x3000 + (kCodeAddress >> 21 & 511) * 8, 0x4000 | kTable));
  LIMEN_TRY(map_user_page(ram, kCodeAddress, kCodePage, 0));
  LIMEN_TRY(map_user_page(ram, kReadOnlyAddress, kReadOnlyPage, kNoExecute));
  for (size_t i = 0; i < kWritablePages.size(); ++i)
    LIMEN_TRY(map_user_page(ram, kWritablePages[i], kWritablePagesStart + i * kPage,
                            kWritable | kNoExecute));
  // Supervisor: the first sixteen pages of RAM.
  LIMEN_TRY(put(ram, kPageTableRoot + 511 * 8, 0x5000 | kTable));
  LIMEN_TRY(put(ram, 0x5000 + 510 * 8, 0x6000 | kTable));
  LIMEN_TRY(put(ram, 0x6000, 0x7000 | kTable));
  for (uint64_t page = 0; page < 16; ++page)
    LIMEN_TRY(put(ram, 0x7000 + page * 8, page * kPage | kPresent | kWritable));
  return {};
}

Result<> write_task_state(GuestMemory& ram) {
  const uint64_t base = kSupervisorBase + kTss;
  // 64-bit TSS descriptor, busy (SDM Vol. 3A 7.2.3), with an I/O map outside the limit.
  LIMEN_TRY(put(ram, kGdt + kTaskSelector,
                0x0000'8B00'0000'0067 | (base & 0xFFFFFF) << 16 | (base >> 24 & 0xFF) << 56));
  LIMEN_TRY(put(ram, kGdt + kTaskSelector + 8, base >> 32));
  LIMEN_TRY(put(ram, kTss + 4, kSupervisorBase + kKernelStackTop));
  const uint16_t io_map = 0x68;
  return put(ram, kTss + 102, &io_map, sizeof io_map);
}

Result<> write_handlers(GuestMemory& ram) {
  for (uint64_t vector = 0; vector < 256; ++vector) {
    const uint64_t handler = kSupervisorBase + kHandlers + vector * 16;
    const uint64_t privilege = vector == 3 || vector == 4 ? 3 : 0;
    LIMEN_TRY(put(ram, kIdt + vector * 16,
                  (handler & 0xFFFF) | uint64_t{kKernelCode} << 16 | 0x8E00'0000'0000 |
                      privilege << 45 | (handler >> 16 & 0xFFFF) << 48));
    LIMEN_TRY(put(ram, kIdt + vector * 16 + 8, handler >> 32));
    // out VECTOR, al; jmp $
    const std::array<uint8_t, 4> code = {0xE6, static_cast<uint8_t>(vector), 0xEB, 0xFE};
    LIMEN_TRY(put(ram, kHandlers + vector * 16, code.data(), code.size()));
  }
  return {};
}

}  // namespace

Result<> write_guest_tables(GuestMemory& ram) {
  LIMEN_TRY(write_page_tables(ram));
  LIMEN_TRY(put(ram, kGdt, kDescriptors.data(), sizeof kDescriptors));
  LIMEN_TRY(write_task_state(ram));
  return write_handlers(ram);
}

x86::Segment segment_for(uint16_t selector) {
  if (selector < 4) return {.selector = selector};
  const uint64_t descriptor = kDescriptors.at(selector >> 3);
  return {.selector = selector,
          .attributes = static_cast<uint16_t>(descriptor >> 40 & 0xF0FF),
          .limit = 0xFFFFFFFF,
          .base = 0};
}

}  // namespace limen::conformance
