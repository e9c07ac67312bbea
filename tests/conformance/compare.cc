#include "conformance/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "conformance/aim.h"
#include "conformance/processors.h"
#include "soft/interpret/native/host.h"

namespace limen::conformance {
namespace {

using soft::decode::Instruction;

constexpr std::array<const char*, 16> kGprNames = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                   "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                   "r12", "r13", "r14", "r15"};
constexpr std::array<const char*, 6> kSegmentNames = {"es", "cs", "ss", "ds", "fs", "gs"};

class Report {
 public:
  void compare(std::string_view name, uint64_t expected, uint64_t got) {
    if (expected != got)
      text_ += fmt::format("  {}: expected {:#x}, got {:#x}\n", name, expected, got);
  }
  void compare_bytes(std::string_view name, std::span<const uint8_t> expected,
                     std::span<const uint8_t> got) {
    if (std::ranges::equal(expected, got)) return;
    text_ += fmt::format("  {}: expected {}\n  {:>{}}       got {}\n", name, hex(expected), "",
                         name.size(), hex(got));
  }
  std::string take() { return std::move(text_); }

  /// Most significant byte first, as a register is written.
  static std::string hex(std::span<const uint8_t> bytes) {
    std::string out;
    for (size_t i = bytes.size(); i-- > 0;) {
      out += fmt::format("{:02x}", bytes[i]);
      if (i % 8 == 0 && i != 0) out += '_';
    }
    return out;
  }

 private:
  std::string text_;
};

uint64_t field(const x86::VectorState& vector, size_t offset, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, vector.fxsave.data() + offset, size);
  return value;
}

void compare_vectors(const x86::VectorState& expected, const x86::VectorState& got,
                     Pointers pointers, Report& report) {
  for (size_t i = 0; i < 32; ++i)
    if (expected.zmm[i] != got.zmm[i])
      report.compare_bytes(fmt::format("zmm{}", i), expected.zmm[i], got.zmm[i]);
  for (size_t i = 0; i < 8; ++i)
    if (expected.opmask[i] != got.opmask[i])
      report.compare(fmt::format("k{}", i), expected.opmask[i], got.opmask[i]);
  struct Field {
    const char* name;
    size_t offset, size;
  };
  static constexpr std::array<Field, 7> kFields = {{{"fcw", 0, 2},
                                                    {"fsw", 2, 2},
                                                    {"ftw", 4, 1},
                                                    {"fop", 6, 2},
                                                    {"fip", 8, 8},
                                                    {"fdp", 16, 8},
                                                    {"mxcsr", 24, 4}}};
  const bool compares_pointers = pointers == Pointers::kCompared ||
                                 soft::interpret::native::host_features().saves_x87_pointers;
  for (const auto& [name, offset, size] : kFields)
    if (compares_pointers || offset < 6 || offset == 24)
      report.compare(name, field(expected, offset, size), field(got, offset, size));
  for (size_t i = 0; i < 8; ++i)
    report.compare_bytes(fmt::format("st{}", i),
                         std::span(expected.fxsave).subspan(32 + 16 * i, 10),
                         std::span(got.fxsave).subspan(32 + 16 * i, 10));
}

void compare_image(const Image& expected, const Image& got, Report& report) {
  if (std::memcmp(expected.data(), got.data(), expected.size()) == 0) return;
  const auto first =
      static_cast<size_t>(std::ranges::mismatch(expected, got).in1 - expected.begin());
  size_t last = expected.size() - 1;
  while (expected[last] == got[last]) --last;
  const uint64_t linear = kWritablePages[first / kPage] + first % kPage;
  const size_t size = std::min<size_t>(last - first + 1, 64);
  report.compare_bytes(fmt::format("memory at {:#x}, {} bytes", linear, last - first + 1),
                       std::span(expected).subspan(first, size),
                       std::span(got).subspan(first, size));
}

uint64_t operand_size(const Instruction& instruction, const ZydisDecodedOperand& operand) {
  // As large as the host's state components make it.
  if (instruction.raw.meta.category == ZYDIS_CATEGORY_XSAVE) return kPage;
  return operand.size / 8u;
}

bool are_in_one_operand(const Instruction& instruction, const Trial& trial, uint64_t one,
                        uint64_t other) {
  const Concrete concrete{.bytes = {.data = {}, .size = trial.code_size},
                          .instruction = instruction};
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    const uint64_t start = linear_address(operand, concrete, trial.before);
    const uint64_t size = operand_size(instruction, operand);
    if (one - start < size && other - start < size) return true;
  }
  return false;
}

/// Whether a fault may name either address.
bool may_name_either(const Instruction& instruction, const Trial& trial, uint64_t one,
                     uint64_t other) {
  // CMPS reads both operands, in either order.
  if (instruction.raw.meta.category == ZYDIS_CATEGORY_STRINGOP &&
      instruction.raw.operand_count > 1 &&
      instruction.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
      instruction.operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY)
    return true;
  return has_parts(instruction) && (((one ^ other) & ~(kPage - 1)) == 0 ||
                                    are_in_one_operand(instruction, trial, one, other));
}

void compare_fault(const Instruction& instruction, const Trial& trial, const Outcome& expected,
                   const Outcome& got, Report& report) {
  uint32_t ignored = 0;
  // Linux sets P for every fault above the program's half, so that nobody can probe the kernel.
  if (expected.vector == 14 && expected.fault_address >> 47 != 0) ignored = 1;
  report.compare("error code", expected.error_code | ignored, got.error_code | ignored);
  if (!may_name_either(instruction, trial, expected.fault_address, got.fault_address))
    report.compare("cr2", expected.fault_address, got.fault_address);
}

// Whether the header of a state area is found to be wrong before or after the components have been
// looked for is up to the processor (SDM Vol. 1 13.13).
bool may_reject_first(const Instruction& instruction, const Trial& trial, const Outcome& expected,
                      const Outcome& got) {
  const auto page_fault_address = [&]() -> uint64_t {
    if (expected.vector == 14 && got.vector == 13) return expected.fault_address;
    return expected.vector == 13 && got.vector == 14 ? got.fault_address : 0;
  }();
  return instruction.raw.meta.category == ZYDIS_CATEGORY_XSAVE && page_fault_address != 0 &&
         are_in_one_operand(instruction, trial, page_fault_address, page_fault_address);
}

bool is_fault(const Outcome& outcome) { return outcome.vector != 1 && outcome.vector != 3; }

// MMX instructions that fault may have set TOP and the tags already.
bool may_have_entered_mmx(const Instruction& instruction, const Outcome& expected) {
  if (!is_fault(expected)) return false;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(instruction.operands[i].reg.value) == ZYDIS_REGCLASS_MMX)
      return true;
  return false;
}

/// Sets TOP to 0 and every register in use. The registers themselves stay where they are, so the
/// image, which has them from the top of the stack, is turned.
void enter_mmx(x86::VectorState& state) {
  const unsigned top = state.fxsave[3] >> 3 & 7;
  const auto stack = state.fxsave.begin() + 32;
  std::rotate(stack, stack + 16 * static_cast<int>((8 - top) & 7), stack + 128);
  state.fxsave[3] &= 0xC7;
  state.fxsave[4] = 0xFF;
}

// An extended real goes to memory in two parts, of which the first may be there after a fault; so
// do the parts of a far call's return address.
bool has_stored_half(const Instruction& instruction, const Outcome& expected) {
  if (expected.vector == 13 && instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
    return true;
  if (may_have_pushed(instruction, expected.vector)) return true;
  return expected.vector == 14 && instruction.raw.operand_count > 0 &&
         (instruction.operands[0].element_type == ZYDIS_ELEMENT_TYPE_FLOAT80 ||
          instruction.operands[0].element_type == ZYDIS_ELEMENT_TYPE_LONGBCD);
}

// Outside of 64-bit mode, and behind a jump out of it, the upper halves are not defined, and a
// string instruction with 32-bit addresses may or may not have cut its registers to 32 bits when it
// faults.
uint64_t defined_register_bits(const Instruction& instruction, const Outcome& expected) {
  const auto category = instruction.raw.meta.category;
  const bool is_string =
      category == ZYDIS_CATEGORY_STRINGOP || category == ZYDIS_CATEGORY_IOSTRINGOP;
  constexpr uint16_t kUserCode32 = 0x23;
  const bool narrow = instruction.mode != soft::decode::CodeMode::k64 ||
                      expected.after.selectors[x86::kCs] == kUserCode32 ||
                      (is_string && instruction.raw.address_width == 32 && expected.vector == 14);
  return narrow ? 0xFFFFFFFF : ~uint64_t{0};
}

bool has_vector_addresses(const Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        instruction.operands[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
      return true;
  return false;
}

// A gather that faults half-way may or may not have cleared what lies above its vectors, and what
// of its mask has no element (SDM Vol. 2C VGATHERQPS).
void clear_idle_bits(const Instruction& instruction, x86::VectorState& state) {
  const size_t vector = instruction.raw.avx.vector_length / 8u;
  for (unsigned i = 0; i < instruction.raw.operand_count_visible; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER ||
        (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0 ||
        ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_MASK)
      continue;
    // VGATHERQPS and VPGATHERQD: half as many elements as the vector has room for.
    const std::string_view name = ZydisMnemonicGetString(instruction.mnemonic());
    const bool half = i > 0 && (name == "vgatherqps" || name == "vpgatherqd");
    auto& reg = state.zmm[static_cast<size_t>(ZydisRegisterGetId(operand.reg.value))];
    std::fill(reg.begin() + static_cast<ptrdiff_t>(half ? vector / 2 : vector), reg.end(),
              uint8_t{0});
  }
}

// With 32-bit operands a segment register may be pushed as a word, or zero-extended (SDM Vol. 2B
// PUSH).
void forget_upper_word(const Instruction& instruction, const Outcome& expected, Image& image) {
  if (instruction.mnemonic() != ZYDIS_MNEMONIC_PUSH || instruction.raw.operand_width != 32 ||
      instruction.operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
      ZydisRegisterGetClass(instruction.operands[0].reg.value) != ZYDIS_REGCLASS_SEGMENT)
    return;
  for (uint64_t i = 2; i < 4; ++i)
    if (const auto offset = image_offset(expected.after.gpr[x86::kRsp] + i, 1))
      image[*offset] = expected.image[*offset];
}

// POPA may have loaded some of the registers when it faults; it loads them again once it can.
bool is_popping_all(const Instruction& instruction, const Outcome& expected) {
  return is_fault(expected) && (instruction.mnemonic() == ZYDIS_MNEMONIC_POPA ||
                                instruction.mnemonic() == ZYDIS_MNEMONIC_POPAD);
}

uint64_t undefined_flags(const Instruction& instruction) {
  return instruction.raw.cpu_flags == nullptr ? 0 : instruction.raw.cpu_flags->undefined;
}

std::string describe_register(const Trial& trial, ZydisRegister reg) {
  const ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  const auto id = static_cast<size_t>(ZydisRegisterGetId(full));
  const auto& before = trial.before;
  switch (ZydisRegisterGetClass(full)) {
    case ZYDIS_REGCLASS_GPR64:
      return fmt::format("  {} = {:#x}\n", kGprNames[id], before.gpr[id]);
    case ZYDIS_REGCLASS_ZMM:
      return fmt::format("  zmm{} = {}\n", id, Report::hex(before.vector.zmm[id]));
    case ZYDIS_REGCLASS_MASK:
      return fmt::format("  k{} = {:#x}\n", id, before.vector.opmask[id]);
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_X87:
      return fmt::format("  {} = {}\n", ZydisRegisterGetString(reg),
                         Report::hex(std::span(before.vector.fxsave).subspan(32 + 16 * id, 10)));
    default:
      return {};
  }
}

}  // namespace

bool has_parts(const Instruction& instruction) {
  const auto mnemonic = instruction.mnemonic();
  if (instruction.raw.meta.category == ZYDIS_CATEGORY_RET || mnemonic == ZYDIS_MNEMONIC_PUSHA ||
      mnemonic == ZYDIS_MNEMONIC_PUSHAD || instruction.raw.meta.category == ZYDIS_CATEGORY_XSAVE)
    return true;
  // Neither is it for stores that leave elements out.
  if (instruction.raw.avx.mask.mode > ZYDIS_MASK_MODE_DISABLED ||
      std::string_view(ZydisMnemonicGetString(mnemonic)).find("maskmov") != std::string_view::npos)
    return true;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        (instruction.operands[i].size > 512 || instruction.operands[i].size == 112 ||
         instruction.operands[i].size == 224))
      return true;
  return false;
}

std::string differences(const x86::VectorState& expected, const x86::VectorState& got,
                        Pointers pointers) {
  Report report;
  compare_vectors(expected, got, pointers, report);
  return report.take();
}

std::string differences(const Instruction& instruction, const Trial& trial, const Outcome& wanted,
                        const Outcome& found, bool strict) {
  Outcome expected = wanted, got = found;
  Report report;
  if (!expected.ran || !got.ran) {
    report.compare("ran to a trap", expected.ran, got.ran);
    return report.take();
  }
  if (may_reject_first(instruction, trial, expected, got) ||
      (!strict && varies(instruction, trial, expected, got)))
    return {};
  if (!strict) forget_varying(instruction, trial, expected, got);
  report.compare("exception", expected.vector, got.vector);
  if (expected.vector == got.vector) compare_fault(instruction, trial, expected, got, report);
  const Registers& a = expected.after;
  const Registers& b = got.after;
  const uint64_t gpr_mask = defined_register_bits(instruction, expected);
  for (size_t i = 0; i < 16; ++i)
    if (i == x86::kRsp || !is_popping_all(instruction, expected))
      report.compare(kGprNames[i], a.gpr[i] & gpr_mask, b.gpr[i] & gpr_mask);
  report.compare("rip", a.rip, b.rip);
  const uint64_t ignored = strict ? 0 : undefined_flags(instruction);
  report.compare("rflags", a.rflags & ~ignored, b.rflags & ~ignored);
  // The kernel's return to the signal handler turns null selectors 1 to 3 into 0.
  const auto visible = [](uint16_t selector) { return selector < 4 ? uint16_t{0} : selector; };
  for (size_t i = 0; i < 6; ++i)
    report.compare(kSegmentNames[i], visible(a.selectors[i]), visible(b.selectors[i]));
  report.compare("fs base", a.fs_base, b.fs_base);
  report.compare("gs base", a.gs_base, b.gs_base);
  x86::VectorState expected_vectors = a.vector;
  x86::VectorState got_vectors = b.vector;
  Image got_image = got.image;
  if (!strict) {
    if (may_have_entered_mmx(instruction, expected)) {
      enter_mmx(expected_vectors);
      enter_mmx(got_vectors);
    }
    if (is_fault(expected) && has_vector_addresses(instruction)) {
      clear_idle_bits(instruction, expected_vectors);
      clear_idle_bits(instruction, got_vectors);
    }
    forget_upper_word(instruction, expected, got_image);
  }
  compare_vectors(expected_vectors, got_vectors, Pointers::kAsTheHostSavesThem, report);
  if (!has_stored_half(instruction, expected)) compare_image(expected.image, got_image, report);
  return report.take();
}

std::string describe(const Instruction& instruction, const Trial& trial) {
  std::string text;
  for (unsigned i = 0; i < trial.code_size; ++i) text += fmt::format("{:02x} ", trial.code[i]);
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  char line[128] = "?";
  ZydisFormatterFormatInstruction(&formatter, &instruction.raw, instruction.operands.data(),
                                  instruction.raw.operand_count_visible, line, sizeof line,
                                  trial.before.rip, nullptr);
  text += fmt::format("  {}\n  rip = {:#x}  rflags = {:#x}  fs = {:#x}  gs = {:#x}\n", line,
                      trial.before.rip, trial.before.rflags, trial.before.fs_base,
                      trial.before.gs_base);
  text += fmt::format("  fcw = {:#x}  fsw = {:#x}  ftw = {:#x}  fop = {:#x}  mxcsr = {:#x}\n",
                      field(trial.before.vector, 0, 2), field(trial.before.vector, 2, 2),
                      field(trial.before.vector, 4, 1), field(trial.before.vector, 6, 2),
                      field(trial.before.vector, 24, 4));
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER)
      text += describe_register(trial, operand.reg.value);
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    text += describe_register(trial, operand.mem.base);
    text += describe_register(trial, operand.mem.index);
    Concrete concrete{.bytes = {.data = {}, .size = trial.code_size}, .instruction = instruction};
    text += fmt::format("  m{} at {:#x}\n", operand.size,
                        linear_address(operand, concrete, trial.before));
  }
  return text;
}

}  // namespace limen::conformance
