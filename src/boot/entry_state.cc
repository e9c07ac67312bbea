// The processor at a kernel's entry point, and the tables it stands on.
#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "boot/acpi/tables.h"
#include "boot/little_endian.h"
#include "boot/loaders.h"

namespace limen::boot {
namespace {

using x86::Segment;

constexpr uint16_t kFlatCode = Segment::kPresent | Segment::kNotSystem | Segment::kCode |
                               Segment::kWritable | Segment::kAccessed | Segment::kGranularity;
constexpr uint16_t kFlatData = Segment::kPresent | Segment::kNotSystem | Segment::kWritable |
                               Segment::kAccessed | Segment::kGranularity | Segment::kDefaultBig;
constexpr uint32_t kFlatLimit = 0xFFFF'FFFF;
constexpr unsigned kBusyTss = 11;

/// A descriptor with base 0 (SDM Vol. 3A 3.4.5).
uint64_t descriptor(uint16_t attributes, uint32_t limit_field) {
  return (uint64_t{attributes} << 40) | (limit_field & 0xFFFF) |
         (uint64_t{limit_field >> 16} << 48);
}

/// What firmware leaves behind: write-back everywhere but video memory, the BIOS area and the PCI
/// hole (SDM Vol. 3A 12.11).
void set_memory_types(x86::SystemState& system, unsigned physical_address_bits) {
  constexpr uint64_t kUncacheable = 0, kWriteProtected = 5, kWriteBack = 6;
  constexpr uint64_t kByte = 0x0101'0101'0101'0101;
  constexpr uint64_t kEnable = 1u << 11, kFixedEnable = 1u << 10;
  system.mtrr_def_type = kEnable | kFixedEnable | kWriteBack;
  system.mtrr_fixed.fill(kByte * kWriteProtected);
  system.mtrr_fixed[0] = system.mtrr_fixed[1] = kByte * kWriteBack;  // 0 to A0000H
  system.mtrr_fixed[2] = kByte * kUncacheable;                       // video memory
  const unsigned bits = std::clamp(physical_address_bits, 36u, 52u);
  system.mtrr_variable[0] = kLowRamLimit | kUncacheable;
  system.mtrr_variable[1] =
      (((uint64_t{1} << bits) - 1) & ~(kHighRamStart - kLowRamLimit - 1)) | kEnable;
}

Result<x86::CpuState> with_segments(const LoadContext& context, uint64_t gdt,
                                    uint16_t code_selector, uint16_t code_attributes) {
  const auto data_selector = static_cast<uint16_t>(code_selector + 8);
  const auto task_selector = static_cast<uint16_t>(code_selector + 16);
  std::array<std::byte, kGdtSize> table{};
  set_field(table, code_selector, descriptor(code_attributes, 0xF'FFFF));
  set_field(table, data_selector, descriptor(kFlatData, 0xF'FFFF));
  set_field(table, task_selector, descriptor(Segment::kPresent | kBusyTss, 0x67));
  LIMEN_TRY(context.memory.write({gdt}, table));

  x86::CpuState cpu = x86::reset_state(context.request.cpu_signature);
  cpu.gpr.fill(0);
  cpu.rflags = x86::rflags::kAlwaysSet;
  auto& system = cpu.system;
  for (auto& segment : system.segments)
    segment = {.selector = data_selector, .attributes = kFlatData, .limit = kFlatLimit};
  system.segments[x86::kCs] = {
      .selector = code_selector, .attributes = code_attributes, .limit = kFlatLimit};
  system.tr = {
      .selector = task_selector, .attributes = Segment::kPresent | kBusyTss, .limit = 0x67};
  system.gdtr = {.base = gdt, .limit = kGdtSize - 1};
  system.idtr = {.base = 0, .limit = 0};
  system.cr0 = x86::cr0::kProtection | x86::cr0::kExtensionType;
  set_memory_types(system, context.request.physical_address_bits);
  return cpu;
}

}  // namespace

Result<x86::CpuState> flat_cpu(const LoadContext& context, uint64_t gdt, uint16_t code_selector) {
  return with_segments(context, gdt, code_selector, kFlatCode | Segment::kDefaultBig);
}

Result<x86::CpuState> long_mode_cpu(const LoadContext& context, uint64_t gdt,
                                    uint16_t code_selector, uint64_t tables) {
  constexpr uint64_t kPresentWritable = 0x3, kLargePage = 0x80;
  constexpr uint64_t kEntries = 512, kDirectories = 4;
  constexpr uint64_t kPage = memory::kPageSize;
  std::vector<std::byte> pages(kPageTablesSize);
  set_field(pages, 0, (tables + kPage) | kPresentWritable);
  for (uint64_t i = 0; i < kDirectories; ++i)
    set_field(pages, kPage + 8 * i, (tables + (2 + i) * kPage) | kPresentWritable);
  for (uint64_t i = 0; i < kDirectories * kEntries; ++i)
    set_field(pages, 2 * kPage + 8 * i, (i << 21) | kPresentWritable | kLargePage);
  LIMEN_TRY(context.memory.write({tables}, pages));

  auto cpu = LIMEN_TRY(with_segments(context, gdt, code_selector, kFlatCode | Segment::kLong));
  auto& system = cpu.system;
  system.cr0 |= x86::cr0::kPaging | x86::cr0::kWriteProtect | x86::cr0::kNumericError |
                x86::cr0::kMonitorCoprocessor;
  system.cr3 = tables;
  system.cr4 = x86::cr4::kPae;
  system.efer = x86::efer::kLme | x86::efer::kLma;
  return cpu;
}

Result<> install_restart_code(memory::GuestMemory& memory) {
  constexpr uint64_t kRestartVector = 0xF'FFF0;
  constexpr std::array<uint8_t, 7> kCode = {
      0xBA, acpi::kResetPort & 0xFF, acpi::kResetPort >> 8,  // mov dx
      0xB0, acpi::kResetValue,                               // mov al
      0xEE,                                                  // out
      0xF4};                                                 // hlt
  return memory.write({kRestartVector}, std::as_bytes(std::span(kCode)));
}

Result<x86::CpuState> waking_state(const memory::GuestMemory& memory, uint32_t cpu_signature,
                                   unsigned physical_address_bits) {
  constexpr uint64_t kWakingVector = 12;
  constexpr uint64_t kVectorLimit = 0x10'0000;  // real mode reaches no further
  std::array<std::byte, 4> bytes{};
  LIMEN_TRY(memory.read(acpi_region(memory) + kWakingVector, bytes));
  const auto vector = field<uint32_t>(bytes, 0);
  if (vector == 0 || vector >= kVectorLimit)
    return fail("the firmware waking vector in the FACS is {:#x}, expected 1 to {:#x}", vector,
                kVectorLimit - 1);
  x86::CpuState cpu = x86::reset_state(cpu_signature);
  auto& code = cpu.system.segments[x86::kCs];
  code.selector = static_cast<uint16_t>(vector >> 4);
  code.base = uint64_t{code.selector} << 4;
  cpu.rip = vector & 0xF;
  cpu.system.idtr = {.base = 0, .limit = 0x3FF};
  cpu.system.cr0 = x86::cr0::kExtensionType;
  set_memory_types(cpu.system, physical_address_bits);
  return cpu;
}

Result<uint64_t> place_structure(const LoadContext& context, uint64_t size, uint64_t alignment,
                                 std::string_view what) {
  const auto place = context.placement.take_lowest(size, alignment, 0, kHighRamStart);
  if (!place)
    return fail("{} of {} bytes does not fit beside kernel '{}' in {} bytes of guest memory", what,
                size, context.request.kernel, context.memory.size());
  return *place;
}

Result<uint64_t> place_string(const LoadContext& context, std::string_view text,
                              std::string_view what) {
  std::vector<std::byte> bytes(text.size() + 1);
  std::ranges::transform(text, bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return place_bytes(context, bytes, what);
}

Result<uint64_t> place_bytes(const LoadContext& context, std::span<const std::byte> bytes,
                             std::string_view what) {
  if (bytes.empty()) return 0;
  const uint64_t place = LIMEN_TRY(place_structure(context, bytes.size(), 16, what));
  LIMEN_TRY(context.memory.write({place}, bytes));
  return place;
}

Result<uint64_t> place_module(const LoadContext& context, const Module& module, uint64_t limit) {
  // Below 1 MiB is for the kernel's own early use.
  const auto place =
      context.placement.take_highest(module.bytes.size(), memory::kPageSize, kBiosAreaEnd, limit);
  if (!place)
    return fail(
        "initrd '{}' of {} bytes does not fit in {} bytes of guest memory beside kernel '{}': the "
        "largest free range below {:#x} has {} bytes",
        module.path, module.bytes.size(), context.memory.size(), context.request.kernel, limit,
        context.placement.largest(kBiosAreaEnd, limit));
  LIMEN_TRY(context.memory.write({*place}, module.bytes));
  return *place;
}

}  // namespace limen::boot
