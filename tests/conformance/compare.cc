#include "conformance/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "conformance/aim.h"

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
                     Report& report) {
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
  for (const auto& [name, offset, size] : kFields)
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

// An operand of several parts is read in an order of the processor's own: which of its bytes the
// page fault names is not defined, only their page.
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

void compare_fault(const Instruction& instruction, const Outcome& expected, const Outcome& got,
                   Report& report) {
  uint32_t ignored = 0;
  // Linux sets P for every fault above the program's half, so that nobody can probe the kernel.
  if (expected.vector == 14 && expected.fault_address >> 47 != 0) ignored = 1;
  report.compare("error code", expected.error_code | ignored, got.error_code | ignored);
  const uint64_t mask = has_parts(instruction) ? ~(kPage - 1) : ~uint64_t{0};
  report.compare("cr2", expected.fault_address & mask, got.fault_address & mask);
}

// Opcodes that a processor does not have: it may find that out before it has fetched them whole.
bool is_cut_short(const Instruction& instruction, const Outcome& expected, const Outcome& got) {
  return expected.vector == 6 && got.vector == 14 && got.fault_address == kCodeAddress + kPage &&
         expected.after.rip + instruction.length() > kCodeAddress + kPage;
}

// MMX instructions that fault may have set TOP and the tags already.
bool has_entered_mmx(const Instruction& instruction, const Outcome& expected) {
  if (expected.vector != 14) return false;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(instruction.operands[i].reg.value) == ZYDIS_REGCLASS_MMX)
      return true;
  return false;
}

// An extended real goes to memory in two parts, of which the first may be there after a fault; so
// do the parts of a far call's return address.
bool has_stored_half(const Instruction& instruction, const Outcome& expected) {
  if (expected.vector == 13 && instruction.raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
    return true;
  return expected.vector == 14 && instruction.raw.operand_count > 0 &&
         instruction.operands[0].element_type == ZYDIS_ELEMENT_TYPE_FLOAT80;
}

// Outside of 64-bit mode the upper halves are not defined, and a string instruction with 32-bit
// addresses may or may not have cut its registers to 32 bits when it faults.
uint64_t defined_register_bits(const Instruction& instruction, const Outcome& expected) {
  const auto category = instruction.raw.meta.category;
  const bool is_string =
      category == ZYDIS_CATEGORY_STRINGOP || category == ZYDIS_CATEGORY_IOSTRINGOP;
  const bool narrow = instruction.mode != soft::decode::CodeMode::k64 ||
                      (is_string && instruction.raw.address_width == 32 && expected.vector == 14);
  return narrow ? 0xFFFFFFFF : ~uint64_t{0};
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

std::string differences(const Instruction& instruction, const Outcome& expected, const Outcome& got,
                        bool strict) {
  Report report;
  if (!expected.ran || !got.ran) {
    report.compare("ran to a trap", expected.ran, got.ran);
    return report.take();
  }
  if (is_cut_short(instruction, expected, got)) return {};
  report.compare("exception", expected.vector, got.vector);
  if (expected.vector == got.vector) compare_fault(instruction, expected, got, report);
  const Registers& a = expected.after;
  const Registers& b = got.after;
  const uint64_t gpr_mask = defined_register_bits(instruction, expected);
  for (size_t i = 0; i < 16; ++i)
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
  if (!has_entered_mmx(instruction, expected)) compare_vectors(a.vector, b.vector, report);
  if (!has_stored_half(instruction, expected)) compare_image(expected.image, got.image, report);
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
  text += fmt::format("  fcw = {:#x}  fsw = {:#x}  ftw = {:#x}  mxcsr = {:#x}\n",
                      field(trial.before.vector, 0, 2), field(trial.before.vector, 2, 2),
                      field(trial.before.vector, 4, 1), field(trial.before.vector, 24, 4));
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
