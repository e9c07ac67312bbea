#include "soft/system/guest.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "soft/decode/decoder.h"
#include "soft/interpret/runner.h"
#include "soft/interpret/select.h"

namespace limen::soft::testing {

using interpret::Operation;
using x86::Segment;

std::optional<uint8_t> FakeInterrupts::acknowledge() {
  if (vectors.empty()) return std::nullopt;
  const uint8_t vector = vectors.front();
  vectors.erase(vectors.begin());
  return vector;
}

vcpu::LocalInterruptController::EventRequest FakeInterrupts::take_event() {
  if (events.empty()) return {};
  const EventRequest event = events.front();
  events.erase(events.begin());
  return event;
}

bool FakeInterrupts::read_msr(uint32_t index, uint64_t& value) {
  if (index != x86::msr::kApicBase) return false;
  value = apic_base;
  return true;
}

namespace {

uint32_t word(std::string_view text, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, text.data() + at, sizeof value);
  return value;
}

x86::CpuidTable make_cpuid(std::string_view vendor) {
  x86::CpuidTable table;
  table.set(0, 0, false,
            {.eax = 0xD, .ebx = word(vendor, 0), .ecx = word(vendor, 8), .edx = word(vendor, 4)});
  table.set(1, 0, false, {.eax = 0x000306C3, .ebx = 0, .ecx = 0x04020000, .edx = 0x0789FBFF});
  table.set(7, 0, true,
            {.eax = 0, .ebx = 0x01900481, .ecx = (1u << 2) | (1u << 22) | (1u << 25), .edx = 0});
  table.set(0xD, 0, true, {.eax = 0xE7, .ebx = 0, .ecx = 0, .edx = 0});
  table.set(0xD, 1, true, {.eax = 0, .ebx = 0, .ecx = 0, .edx = 0});
  table.set(0x80000000, 0, false, {.eax = 0x80000008, .ebx = 0, .ecx = 0, .edx = 0});
  table.set(0x80000001, 0, false, {.eax = 0, .ebx = 0, .ecx = 0, .edx = 0x2C100800});
  table.set(0x80000008, 0, false, {.eax = 0x3028, .ebx = 1, .ecx = 0, .edx = 0});
  return table;
}

}  // namespace

Guest::Guest(std::string_view vendor) : cpuid(make_cpuid(vendor)) {
  const std::array layout = {memory::GuestMemory::Layout{{0}, 4 << 20}};
  ram = std::move(memory::GuestMemory::create(layout).value());
  ports.claim(0, 0x10000, port_log, "everything");
  cpu = std::make_unique<Cpu>(*ram, ports, mmio, cpuid, interrupts);
  x86::CpuState state = x86::reset_state(0);
  state.system.segments[x86::kCs].selector = 0;
  state.system.segments[x86::kCs].base = 0;
  state.rip = kEntry;
  state.gpr[x86::kRsp] = 0xF00;
  cpu->set_state(state);
}

void Guest::load_program(std::string_view name) {
  std::ifstream file(std::string(LIMEN_TEST_GUESTS "/") + std::string(name) + ".bin",
                     std::ios::binary);
  ASSERT_TRUE(file) << name;
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  ASSERT_LE(bytes.size(), kGdt + 0x1000 - kEntry);
  ASSERT_TRUE(ram->write({kEntry}, std::as_bytes(std::span(bytes))));
}

std::optional<x86::Exception> Guest::step() {
  std::array<uint8_t, decode::kMaxInstructionLength> bytes{};
  const uint64_t base =
      cpu->mode == decode::CodeMode::k64 ? 0 : cpu->system.segments[x86::kCs].base;
  const uint64_t mask = cpu->mode == decode::CodeMode::k64 ? ~uint64_t{0} : 0xFFFFFFFF;
  try {
    if (cpu->mode != decode::CodeMode::k64 && cpu->rip > cpu->system.segments[x86::kCs].limit)
      return x86::Exception::general_protection();
    for (size_t i = 0; i < bytes.size(); ++i) {
      const uint64_t linear = (base + cpu->rip + i) & mask;
      const FetchResult page = cpu->mmu.fetch(linear);
      bytes[i] = page.host_page[linear & 0xFFF];
    }
    decode::Instruction instruction;
    Operation operation;
    if (decode::decode(cpu->mode, bytes, instruction) != decode::Outcome::kOk)
      return x86::Exception::invalid_opcode();
    interpret::fill_operation(instruction, operation);
    operation.handler = interpret::select_integer(instruction, operation);
    if (operation.handler == nullptr)
      operation.handler = interpret::select_system(instruction, operation);
    if (operation.handler == nullptr) return x86::Exception::invalid_opcode();
    cpu->gpr[interpret::kNextRip] = (cpu->rip + operation.length) & cpu->rip_mask;
    operation.handler(*cpu, operation);
    cpu->rip = cpu->gpr[interpret::kNextRip];
    return std::nullopt;
  } catch (const x86::Exception& exception) {
    return exception;
  }
}

std::optional<x86::Exception> Guest::execute(std::initializer_list<uint8_t> bytes) {
  const uint64_t base =
      cpu->mode == decode::CodeMode::k64 ? 0 : cpu->system.segments[x86::kCs].base;
  EXPECT_TRUE(ram->write({base + cpu->rip}, std::as_bytes(std::span(bytes.begin(), bytes.size()))));
  return step();
}

bool Guest::run() {
  constexpr uint64_t kTscFrequency = 1'000'000'000;  // no timer runs: any value does
  const size_t code_size = tier_ == Tier::kTranslator ? size_t{4} << 20 : 0;
  interpret::Runner runner(*cpu, kTscFrequency, code_size);
  port_log.on_write = [&](uint64_t port) {
    if (port == kExitPort) runner.kick();
  };
  const vcpu::Exit exit = runner.run();
  port_log.on_write = nullptr;
  if (const auto* translator = runner.translator()) {
    interpreted = translator->statistics().interpreted;
    quick_lookups = translator->statistics().quick_lookups;
  }
  triple_fault = exit.reason == vcpu::ExitReason::kShutdown;
  return exit.reason == vcpu::ExitReason::kInterrupted;
}

uint64_t make_descriptor(uint16_t attributes, uint32_t base, uint32_t limit) {
  return (limit & 0xFFFF) | (uint64_t{base & 0xFFFFFF} << 16) | (uint64_t{attributes} << 40) |
         (uint64_t{(limit >> 16) & 0xF} << 48) | (uint64_t{base >> 24} << 56);
}

uint64_t make_gate(uint16_t selector, uint32_t offset, uint8_t type_byte, uint8_t count) {
  return (offset & 0xFFFF) | (uint64_t{selector} << 16) | (uint64_t{count} << 32) |
         (uint64_t{type_byte} << 40) | (uint64_t{offset >> 16} << 48);
}

void Guest::set_descriptor(uint16_t selector, uint64_t low, uint64_t high) {
  store(kGdt + (selector & 0xFFF8u), low);
  if (high != 0) store(kGdt + (selector & 0xFFF8u) + 8, high);
}

uint64_t Guest::load(uint64_t address) const {
  uint64_t value = 0;
  EXPECT_TRUE(ram->read({address}, std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

void Guest::store(uint64_t address, uint64_t value) {
  EXPECT_TRUE(ram->write({address}, std::as_bytes(std::span(&value, 1))));
}

void Guest::use_flat_segments(unsigned cpl, bool is_long) {
  const auto dpl = static_cast<uint16_t>(cpl << 5);
  constexpr uint16_t kCommon = Segment::kPresent | Segment::kNotSystem | Segment::kWritable |
                               Segment::kAccessed | Segment::kGranularity;
  for (Segment& segment : cpu->system.segments)
    segment = {.selector = static_cast<uint16_t>(0x18 | cpl),
               .attributes = static_cast<uint16_t>(kCommon | Segment::kDefaultBig | dpl),
               .limit = 0xFFFFFFFF};
  cpu->system.segments[x86::kCs] = {
      .selector = static_cast<uint16_t>(0x08 | cpl),
      .attributes = static_cast<uint16_t>(kCommon | Segment::kCode | dpl |
                                          (is_long ? Segment::kLong : Segment::kDefaultBig)),
      .limit = 0xFFFFFFFF};
}

void Guest::enter_protected_mode(unsigned cpl) {
  cpu->system.cr0 |= x86::cr0::kProtection;
  cpu->system.gdtr = {.base = kGdt, .limit = 0x7FF};
  cpu->system.idtr = {.base = kIdt, .limit = 0x7FF};
  use_flat_segments(cpl, false);
  cpu->update_mode();
}

void Guest::enter_long_mode(unsigned cpl) {
  // User pages throughout, so that any ring can run anywhere.
  store(0x10000, 0x11007);
  store(0x11000, 0x12007);
  for (uint64_t i = 0; i < 2; ++i) store(0x12000 + 8 * i, (i << 21) | 0x87);
  cpu->system.cr3 = 0x10000;
  cpu->system.cr4 |= x86::cr4::kPae;
  cpu->system.efer |= x86::efer::kLme | x86::efer::kLma | x86::efer::kSce;
  cpu->system.cr0 |= x86::cr0::kProtection | x86::cr0::kPaging;
  cpu->system.gdtr = {.base = kGdt, .limit = 0x7FF};
  cpu->system.idtr = {.base = kIdt, .limit = 0xFFF};
  use_flat_segments(cpl, true);
  cpu->update_mode();
}

void Guest::set_cpl(unsigned cpl) {
  use_flat_segments(cpl, cpu->mode == decode::CodeMode::k64);
  cpu->update_mode();
}

}  // namespace limen::soft::testing
