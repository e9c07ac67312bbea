// The x87 environment in memory: FNSTENV, FLDENV, FNSAVE, FRSTOR (SDM Vol. 1 8.1.10), and what
// sets it: FNINIT, EMMS, FWAIT.
#include <array>
#include <span>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/image.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/operand.h"

namespace limen::soft::interpret::native {
namespace {

constexpr size_t kLongEnvironment = 28;
constexpr size_t kShortEnvironment = 14;
constexpr size_t kRegisters = 80;
constexpr size_t kRegisterSize = 10;

enum Tag : unsigned { kValid, kZero, kSpecial, kEmpty };

/// The tag that the register's contents have (SDM Vol. 1 8.1.7).
Tag tag_of(const uint8_t* value) {
  uint64_t significand;
  uint16_t exponent;
  std::memcpy(&significand, value, 8);
  std::memcpy(&exponent, value + 8, 2);
  exponent &= 0x7FFF;
  if (exponent == 0) return significand == 0 ? kZero : kSpecial;
  if (exponent == 0x7FFF || !(significand >> 63)) return kSpecial;
  return kValid;
}

uint16_t full_tags(const x86::VectorState& state) {
  const uint8_t present = state.fxsave[kTagsAt];
  const unsigned top = x87_top(state);
  unsigned tags = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const unsigned from_top = (physical - top) & 7;
    const unsigned tag = (present >> physical) & 1
                             ? tag_of(state.fxsave.data() + kStackAt + 16 * from_top)
                             : unsigned{kEmpty};
    tags |= tag << (2 * physical);
  }
  return static_cast<uint16_t>(tags);
}

uint8_t abridged_tags(uint16_t tags) {
  unsigned present = 0;
  for (unsigned physical = 0; physical < 8; ++physical)
    if (((tags >> (2 * physical)) & 3) != kEmpty) present |= 1u << physical;
  return static_cast<uint8_t>(present);
}

/// The environment as a row of words: two bytes each in the short form, four in the long one.
class Environment {
 public:
  Environment(std::span<std::byte> bytes, bool is_long) : bytes_(bytes), long_(is_long) {}

  void put(unsigned index, uint32_t value) {
    if (long_)
      std::memcpy(bytes_.data() + 4 * index, &value, 4);
    else
      std::memcpy(bytes_.data() + 2 * index, &value, 2);
  }
  [[nodiscard]] uint32_t get(unsigned index) const {
    uint32_t value = 0;
    std::memcpy(&value, bytes_.data() + (long_ ? 4 : 2) * index, long_ ? 4 : 2);
    return value;
  }

 private:
  std::span<std::byte> bytes_;
  bool long_;
};

bool is_long_form(const Operation& operation) { return operation.operand_size != 2; }

void store_environment(const Cpu& cpu, std::span<std::byte> bytes, bool is_long) {
  const auto& state = cpu.vector;
  Environment environment(bytes, is_long);
  const uint32_t reserved = is_long ? 0xFFFF0000 : 0;
  const auto instruction = image_field<uint32_t>(state, kInstructionPointerAt);
  const auto data = image_field<uint32_t>(state, kDataPointerAt);
  const uint32_t opcode = image_field<uint16_t>(state, kOpcodeAt) & 0x7FFu;
  environment.put(0, image_field<uint16_t>(state, kControlWordAt) | reserved);
  environment.put(1, image_field<uint16_t>(state, kStatusWordAt) | reserved);
  environment.put(2, full_tags(state) | reserved);
  if (cpu.protected_mode) {
    // Selectors are zero: CPUID.7.0:EBX[13] says that they are no longer kept.
    environment.put(3, instruction);
    environment.put(4, is_long ? opcode << 16 : 0);
    environment.put(5, data);
    environment.put(6, reserved);
  } else if (is_long) {
    environment.put(3, (instruction & 0xFFFF) | reserved);
    environment.put(4, ((instruction >> 16) << 12) | opcode);
    environment.put(5, (data & 0xFFFF) | reserved);
    environment.put(6, (data >> 16) << 12);
  } else {
    environment.put(3, instruction);
    environment.put(4, ((instruction >> 4) & 0xF000) | opcode);
    environment.put(5, data);
    environment.put(6, (data >> 4) & 0xF000);
  }
}

void load_environment(Cpu& cpu, std::span<std::byte> bytes, bool is_long) {
  auto& state = cpu.vector;
  const Environment environment(bytes, is_long);
  uint64_t instruction = environment.get(3);
  uint64_t data = environment.get(5);
  uint32_t opcode = 0;
  if (!cpu.protected_mode) {
    const uint64_t high_mask = is_long ? 0xFFFF : 0xF;
    opcode = environment.get(4) & 0x7FF;
    instruction = (instruction & 0xFFFF) | (((environment.get(4) >> 12) & high_mask) << 16);
    data = (data & 0xFFFF) | (((environment.get(6) >> 12) & high_mask) << 16);
  } else if (is_long) {
    opcode = (environment.get(4) >> 16) & 0x7FF;
  }
  // Bit 6 always reads as 1, bits 7 and 13 to 15 as 0 (SDM Vol. 1 8.1.5).
  const auto control = static_cast<uint16_t>((environment.get(0) & 0x1F3F) | 0x40);
  set_image_field(state, kControlWordAt, control);
  const auto status = static_cast<uint16_t>(environment.get(1));
  set_x87_top(state, (status >> 11) & 7);
  set_image_field(state, kStatusWordAt, status);
  set_image_field(state, kTagsAt,
                  uint16_t{abridged_tags(static_cast<uint16_t>(environment.get(2)))});
  set_image_field(state, kOpcodeAt, static_cast<uint16_t>(opcode));
  set_image_field(state, kInstructionPointerAt, instruction);
  set_image_field(state, kDataPointerAt, data);
  update_error_summary(state);
}

/// Waiting instructions meet the exception of an earlier one first.
void check_pending(const Cpu& cpu) {
  if (x87_exception_pending(cpu.vector)) raise_plain(x86::Vector::kX87FloatingPoint);
}

size_t environment_size(bool is_long) { return is_long ? kLongEnvironment : kShortEnvironment; }

using Buffer = std::array<std::byte, kLongEnvironment + kRegisters>;

void store_to_memory(Cpu& cpu, const Operation& operation, bool with_registers) {
  check<Check::kX87>(cpu);
  const bool is_long = is_long_form(operation);
  const size_t size = environment_size(is_long);
  const size_t total = size + (with_registers ? kRegisters : 0);
  Buffer buffer;
  store_environment(cpu, {buffer.data(), size}, is_long);
  if (with_registers)
    for (unsigned i = 0; i < 8; ++i)
      std::memcpy(buffer.data() + size + kRegisterSize * i,
                  cpu.vector.fxsave.data() + kStackAt + 16 * i, kRegisterSize);
  const uint64_t linear = operand_linear(cpu, operation, total, AccessKind::kWrite);
  cpu.mmu.probe_write(linear, is_long ? 4 : 2);  // for its alignment
  cpu.mmu.write_bytes(linear, {buffer.data(), total});
}

std::span<std::byte> load_from_memory(Cpu& cpu, const Operation& operation, Buffer& buffer,
                                      size_t size) {
  check<Check::kX87>(cpu);
  check_pending(cpu);
  const uint64_t linear = operand_linear(cpu, operation, size, AccessKind::kRead);
  cpu.mmu.probe_read(linear, is_long_form(operation) ? 4 : 2);  // for its alignment
  const std::span<std::byte> bytes(buffer.data(), size);
  cpu.mmu.read_bytes(linear, bytes);
  return bytes;
}

void fnstenv(Cpu& cpu, const Operation& operation) {
  store_to_memory(cpu, operation, false);
  const auto control = image_field<uint16_t>(cpu.vector, kControlWordAt);
  set_image_field(cpu.vector, kControlWordAt, static_cast<uint16_t>(control | kExceptionBits));
  update_error_summary(cpu.vector);
}

void fnsave(Cpu& cpu, const Operation& operation) {
  store_to_memory(cpu, operation, true);
  initialize_x87(cpu.vector);
}

void fninit(Cpu& cpu, const Operation&) {
  check<Check::kX87>(cpu);
  initialize_x87(cpu.vector);
}

void fldenv(Cpu& cpu, const Operation& operation) {
  Buffer buffer;
  const bool is_long = is_long_form(operation);
  load_environment(cpu, load_from_memory(cpu, operation, buffer, environment_size(is_long)),
                   is_long);
}

void frstor(Cpu& cpu, const Operation& operation) {
  Buffer buffer;
  const bool is_long = is_long_form(operation);
  const size_t size = environment_size(is_long);
  load_environment(cpu, load_from_memory(cpu, operation, buffer, size + kRegisters), is_long);
  for (unsigned i = 0; i < 8; ++i) {
    uint8_t* value = cpu.vector.fxsave.data() + kStackAt + 16 * i;
    std::memset(value, 0, 16);
    std::memcpy(value, buffer.data() + size + kRegisterSize * i, kRegisterSize);
  }
}

/// CR0.EM does not matter to it, TS only with MP (SDM Vol. 2A FWAIT).
void fwait(Cpu& cpu, const Operation&) {
  constexpr uint64_t kBoth = x86::cr0::kMonitorCoprocessor | x86::cr0::kTaskSwitched;
  if ((cpu.system.cr0 & kBoth) == kBoth) raise_plain(x86::Vector::kDeviceNotAvailable);
  check_pending(cpu);
}

void emms(Cpu& cpu, const Operation&) {
  check<Check::kMmx>(cpu);
  check_pending(cpu);
  set_x87_top(cpu.vector, 0);
  cpu.vector.fxsave[kTagsAt] = 0;
}

}  // namespace

Handler select_x87_environment(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FWAIT:
      return fwait;
    case ZYDIS_MNEMONIC_FNINIT:
      return fninit;
    case ZYDIS_MNEMONIC_FNSTENV:
      return fnstenv;
    case ZYDIS_MNEMONIC_FNSAVE:
      return fnsave;
    case ZYDIS_MNEMONIC_FLDENV:
      return fldenv;
    case ZYDIS_MNEMONIC_FRSTOR:
      return frstor;
    case ZYDIS_MNEMONIC_EMMS:
      return emms;
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret::native
