#include "gdb/registers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <vector>

#include "gdb/register_table.h"

namespace limen::gdb {
namespace {

using x86::CpuState;
using x86::SegmentRegister;

/// gdb's order of the general registers.
constexpr std::array<uint8_t, 16> kGeneral = {
    x86::kRax, x86::kRbx, x86::kRcx, x86::kRdx, x86::kRsi, x86::kRdi, x86::kRbp, x86::kRsp,
    x86::kR8,  x86::kR9,  x86::kR10, x86::kR11, x86::kR12, x86::kR13, x86::kR14, x86::kR15};
constexpr std::array<uint8_t, 6> kSegments = {x86::kCs, x86::kSs, x86::kDs,
                                              x86::kEs, x86::kFs, x86::kGs};

// Places in an FXSAVE64 image (SDM Vol. 1 table 10-2).
constexpr size_t kControl = 0, kStatus = 2, kTag = 4, kOpcode = 6, kInstruction = 8, kData = 16,
                 kMxcsr = 24, kStack = 32, kStackStep = 16;
constexpr unsigned kTopShift = 11;

template <typename T>
T load(const CpuState& cpu, size_t offset) {
  T value;
  std::memcpy(&value, cpu.vector.fxsave.data() + offset, sizeof value);
  return value;
}
template <typename T>
void store(CpuState& cpu, size_t offset, T value) {
  std::memcpy(cpu.vector.fxsave.data() + offset, &value, sizeof value);
}

/// The tag word as FSAVE writes it; FXSAVE keeps a bit per register, whether it holds anything
/// (SDM Vol. 1 10.5.1.1, 8.1.7).
uint16_t full_tag_word(const CpuState& cpu) {
  constexpr unsigned kValid = 0, kIsZero = 1, kSpecial = 2, kEmpty = 3;
  const auto abridged = load<uint8_t>(cpu, kTag);
  const unsigned top = load<uint16_t>(cpu, kStatus) >> kTopShift & 7;
  unsigned word = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    unsigned tag = kEmpty;
    if ((abridged >> physical & 1) != 0) {
      const size_t place = kStack + kStackStep * ((physical - top) & 7);
      const auto significand = load<uint64_t>(cpu, place);
      const unsigned exponent = load<uint16_t>(cpu, place + 8) & 0x7FFF;
      if (exponent == 0)
        tag = significand == 0 ? kIsZero : kSpecial;
      else
        tag = exponent == 0x7FFF || significand >> 63 == 0 ? kSpecial : kValid;
    }
    word |= tag << (2 * physical);
  }
  return static_cast<uint16_t>(word);
}

void set_full_tag_word(CpuState& cpu, uint64_t word) {
  uint8_t abridged = 0;
  for (unsigned physical = 0; physical < 8; ++physical)
    if ((word >> (2 * physical) & 3) != 3)
      abridged = static_cast<uint8_t>(abridged | 1u << physical);
  store(cpu, kTag, abridged);
}

uint64_t read_float_control(const CpuState& cpu, FloatControl which) {
  switch (which) {
    case FloatControl::kFctrl:
      return load<uint16_t>(cpu, kControl);
    case FloatControl::kFstat:
      return load<uint16_t>(cpu, kStatus);
    case FloatControl::kFtag:
      return full_tag_word(cpu);
    case FloatControl::kFiseg:
      return load<uint16_t>(cpu, kInstruction + 4);
    case FloatControl::kFioff:
      return load<uint32_t>(cpu, kInstruction);
    case FloatControl::kFoseg:
      return load<uint16_t>(cpu, kData + 4);
    case FloatControl::kFooff:
      return load<uint32_t>(cpu, kData);
    case FloatControl::kFop:
      return load<uint16_t>(cpu, kOpcode) & 0x7FFu;
    case FloatControl::kMxcsr:
      return load<uint32_t>(cpu, kMxcsr);
  }
  return 0;
}

void write_float_control(CpuState& cpu, FloatControl which, uint64_t value) {
  // Reserved bits of MXCSR that are set would fault when it is loaded (SDM Vol. 1 10.2.3).
  constexpr uint32_t kMxcsrDefined = 0xFFFF;
  const auto word = static_cast<uint16_t>(value);
  const auto doubleword = static_cast<uint32_t>(value);
  switch (which) {
    case FloatControl::kFctrl:
      return store(cpu, kControl, word);
    case FloatControl::kFstat:
      return store(cpu, kStatus, word);
    case FloatControl::kFtag:
      return set_full_tag_word(cpu, value);
    case FloatControl::kFiseg:
      return store(cpu, kInstruction + 4, word);
    case FloatControl::kFioff:
      return store(cpu, kInstruction, doubleword);
    case FloatControl::kFoseg:
      return store(cpu, kData + 4, word);
    case FloatControl::kFooff:
      return store(cpu, kData, doubleword);
    case FloatControl::kFop:
      return store(cpu, kOpcode, static_cast<uint16_t>(word & 0x7FF));
    case FloatControl::kMxcsr:
      return store(cpu, kMxcsr, doubleword & kMxcsrDefined);
  }
}

/// The field of a register that is one 64-bit number.
uint64_t* system_field(RegisterFile& file, SystemRegister which) {
  auto& system = file.cpu.system;
  switch (which) {
    case SystemRegister::kFsBase:
      return &system.segments[x86::kFs].base;
    case SystemRegister::kGsBase:
      return &system.segments[x86::kGs].base;
    case SystemRegister::kKernelGsBase:
      return &system.kernel_gs_base;
    case SystemRegister::kCr0:
      return &system.cr0;
    case SystemRegister::kCr2:
      return &system.cr2;
    case SystemRegister::kCr3:
      return &system.cr3;
    case SystemRegister::kCr4:
      return &system.cr4;
    case SystemRegister::kCr8:
      return &file.cr8;
    case SystemRegister::kEfer:
      return &system.efer;
  }
  return nullptr;
}

std::string bytes_of(uint64_t value, size_t size) {
  std::string out(size, '\0');
  std::memcpy(out.data(), &value, std::min(size, sizeof value));
  return out;
}

void write_selector(CpuState& cpu, uint8_t segment, uint16_t selector) {
  auto& hidden = cpu.system.segments[segment];
  if (hidden.selector == selector) return;
  hidden.selector = selector;
  const bool real = (cpu.system.cr0 & x86::cr0::kProtection) == 0 ||
                    (cpu.rflags & x86::rflags::kVirtual8086) != 0;
  if (real) hidden.base = uint64_t{selector} << 4;
}

}  // namespace

size_t register_count() { return register_table().size(); }

size_t register_size(size_t number) { return register_table()[number].bits / 8; }

std::string read_register(const RegisterFile& file, size_t number) {
  const Register& entry = register_table()[number];
  const size_t size = entry.bits / 8;
  const auto& vector = file.cpu.vector;
  const auto part = [size](const uint8_t* from) {
    return std::string(reinterpret_cast<const char*>(from), size);
  };
  switch (entry.kind) {
    case RegisterKind::kGeneral:
      return bytes_of(file.cpu.gpr[kGeneral[entry.index]], size);
    case RegisterKind::kRip:
      return bytes_of(file.cpu.rip, size);
    case RegisterKind::kFlags:
      return bytes_of(file.cpu.rflags, size);
    case RegisterKind::kSegment:
      return bytes_of(file.cpu.system.segments[kSegments[entry.index]].selector, size);
    case RegisterKind::kFloat:
      return part(vector.fxsave.data() + kStack + kStackStep * entry.index);
    case RegisterKind::kFloatControl:
      return bytes_of(read_float_control(file.cpu, static_cast<FloatControl>(entry.index)), size);
    case RegisterKind::kXmm:
      return part(vector.zmm[entry.index].data());
    case RegisterKind::kYmmHigh:
      return part(vector.zmm[entry.index].data() + 16);
    case RegisterKind::kSystem: {
      RegisterFile copy = file;
      return bytes_of(*system_field(copy, static_cast<SystemRegister>(entry.index)), size);
    }
  }
  return {};
}

void write_register(RegisterFile& file, size_t number, std::string_view bytes) {
  const Register& entry = register_table()[number];
  auto& vector = file.cpu.vector;
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  switch (entry.kind) {
    case RegisterKind::kGeneral:
      file.cpu.gpr[kGeneral[entry.index]] = value;
      break;
    case RegisterKind::kRip:
      file.cpu.rip = value;
      break;
    case RegisterKind::kFlags:
      file.cpu.rflags = value | x86::rflags::kAlwaysSet;
      break;
    case RegisterKind::kSegment:
      write_selector(file.cpu, kSegments[entry.index], static_cast<uint16_t>(value));
      break;
    case RegisterKind::kFloat:
      std::ranges::copy(bytes, vector.fxsave.data() + kStack + kStackStep * entry.index);
      break;
    case RegisterKind::kFloatControl:
      write_float_control(file.cpu, static_cast<FloatControl>(entry.index), value);
      break;
    case RegisterKind::kXmm:
      std::ranges::copy(bytes, vector.zmm[entry.index].data());
      break;
    case RegisterKind::kYmmHigh:
      std::ranges::copy(bytes, vector.zmm[entry.index].data() + 16);
      break;
    case RegisterKind::kSystem:
      *system_field(file, static_cast<SystemRegister>(entry.index)) = value;
      break;
  }
}

}  // namespace limen::gdb
