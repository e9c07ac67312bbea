#include "conformance/programs/laboratory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "conformance/compare.h"
#include "conformance/processors.h"
#include "conformance/programs/situation_maker.h"
#include "conformance/soft_guest.h"
#include "soft/decode/decoder.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

constexpr unsigned kStepLimit = 4000;
constexpr uint8_t kDebugVector = 1, kBreakpointVector = 3, kGeneralProtectionVector = 13,
                  kAlignmentVector = 17;
constexpr std::array<const char*, 16> kNames = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                "r12", "r13", "r14", "r15"};

struct Rules {
  bool dead_flags_differ = false;  ///< docs/engine.md: the arithmetic flags at a fault.
  bool native = false;             ///< Compared with the processor, under Linux.
};

std::string compare_faults(const Fault& expected, const Fault& got, const Rules& rules) {
  uint32_t ignored = 0;
  // Linux sets P for every fault above what programs may have, so that nobody can probe the kernel.
  constexpr uint64_t kProgramsEnd = 0x7FFF'FFFF'F000;
  if (rules.native && expected.address >= kProgramsEnd) ignored = 1;
  std::string text;
  if (expected.vector != got.vector ||
      (expected.error_code | ignored) != (got.error_code | ignored) ||
      expected.address != got.address || expected.rip != got.rip)
    text += fmt::format(
        "  exception {} code {:#x} cr2 {:#x} rip {:#x}, got {} code {:#x} cr2 {:#x} rip {:#x}\n",
        expected.vector, expected.error_code, expected.address, expected.rip, got.vector,
        got.error_code, got.address, got.rip);
  return text;
}

std::string compare_memory(const Memory& expected, const Memory& got) {
  if (std::memcmp(expected.data(), got.data(), expected.size()) == 0) return {};
  std::string text;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == got[i]) continue;
    const size_t end = std::min(i + 16, (i | (kPage - 1)) + 1);
    text += fmt::format("  window + {:#x}: expected", kPageOffsets[i / kPage] + i % kPage);
    for (size_t at = i; at < end; ++at) text += fmt::format(" {:02x}", expected[at]);
    text += ", got";
    for (size_t at = i; at < end; ++at) text += fmt::format(" {:02x}", got[at]);
    return text + "\n";
  }
  return text;
}

/// What became of a program's code, from the first byte that changed.
std::string describe_changes(const std::array<uint8_t, kCodeSize>& code, const Memory& memory) {
  const auto first = static_cast<size_t>(std::ranges::mismatch(code, memory).in1 - code.begin());
  if (first == code.size()) return {};
  std::string text = fmt::format("  code at {:#x} is now", kProgramAddress + first);
  for (size_t at = first; at < std::min(first + 24, code.size()); ++at)
    text += fmt::format(" {:02x}", memory[at]);
  return text + "\n";
}

bool is_fault(uint8_t vector) { return vector != kDebugVector && vector != kBreakpointVector; }

std::string compare_endings(const Ending& expected, const Ending& got, const Rules& rules) {
  if (!expected.ended && !got.ended) return {};  // a triple fault
  if (!expected.ended || !got.ended)
    return fmt::format("  ends: expected {}, got {}\n", expected.ended, got.ended);
  std::string text;
  if (expected.faults.size() != got.faults.size())
    text +=
        fmt::format("  faults: expected {}, got {}\n", expected.faults.size(), got.faults.size());
  for (size_t i = 0; i < std::min(expected.faults.size(), got.faults.size()); ++i)
    text += compare_faults(expected.faults[i], got.faults[i], rules);
  const Registers& a = expected.after;
  const Registers& b = got.after;
  for (size_t i = 0; i < 16; ++i)
    if (a.gpr[i] != b.gpr[i])
      text += fmt::format("  {}: expected {:#x}, got {:#x}\n", kNames[i], a.gpr[i], b.gpr[i]);
  const uint64_t ignored =
      rules.dead_flags_differ && is_fault(expected.last().vector) ? x86::rflags::kArithmetic : 0;
  if ((a.rflags & ~ignored) != (b.rflags & ~ignored))
    text += fmt::format("  rflags: expected {:#x}, got {:#x}\n", a.rflags, b.rflags);
  if (a.fs_base != b.fs_base || a.gs_base != b.gs_base)
    text += fmt::format("  fs {:#x} gs {:#x}, got fs {:#x} gs {:#x}\n", a.fs_base, a.gs_base,
                        b.fs_base, b.gs_base);
  for (size_t i = 0; i < 6; ++i)
    if (!rules.native && a.selectors[i] != b.selectors[i])
      text += fmt::format("  selector {}: expected {:#x}, got {:#x}\n", i, a.selectors[i],
                          b.selectors[i]);
  if (!rules.native && expected.kernel_gs_base != got.kernel_gs_base)
    text += fmt::format("  kernel gs: expected {:#x}, got {:#x}\n", expected.kernel_gs_base,
                        got.kernel_gs_base);
  if (!rules.native && expected.dirty != got.dirty) text += "  other pages are dirty\n";
  text += differences(a.vector, b.vector,
                      rules.native ? Pointers::kAsTheHostSavesThem : Pointers::kCompared);
  text += compare_memory(expected.memory, got.memory);
  return text;
}

constexpr bool is_canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

/// Translated code that jumps to an address that is not canonical faults there (docs/engine.md):
/// sees that as a fault of the jump. What CALL pushed stays pushed.
void undo_stray_jump(const Ending& expected, Ending& got) {
  if (!expected.ended || !got.ended || got.last().vector != kGeneralProtectionVector ||
      is_canonical(got.last().rip) || !is_canonical(expected.last().rip))
    return;
  got.faults.back().rip = got.after.rip = expected.after.rip;
  if (got.after.gpr[x86::kRsp] + 8 == expected.after.gpr[x86::kRsp]) got.memory = expected.memory;
  got.after.gpr[x86::kRsp] = expected.after.gpr[x86::kRsp];
}

/// Whether what the faulting instruction has done by then, or which byte it names, is up to the
/// processor.
bool may_fault_either_way(const Program& program, const Ending& ending) {
  if (!is_fault(ending.last().vector)) return false;
  const uint64_t offset = ending.last().rip - (kWindows[0] + kCodeOffset);
  if (offset >= kCodeSize) return false;
  soft::decode::Instruction instruction;
  const auto code = std::span(ending.memory).subspan(offset, kCodeSize - offset);
  if (decode(program.mode(), code, instruction) != soft::decode::Outcome::kOk) return false;
  const auto category = instruction.raw.meta.category;
  return has_parts(instruction) || may_have_pushed(instruction, ending.last().vector) ||
         category == ZYDIS_CATEGORY_X87_ALU || instruction.raw.meta.isa_ext == ZYDIS_ISA_EXT_MMX ||
         category == ZYDIS_CATEGORY_STRINGOP;
}

/// Where an ordinary process has nothing mapped, and a sanitized one AddressSanitizer's shadow.
constexpr bool is_sanitizer_shadow([[maybe_unused]] uint64_t address) {
#ifdef __SANITIZE_ADDRESS__
  constexpr uint64_t kShadow = 0x7FFF'8000, kShadowEnd = 0x1000'7FFF'8000;
  return address >= kShadow && address < kShadowEnd;
#else
  return false;
#endif
}

/// Where the software machines may have a page from another run, and the native child has none.
constexpr bool is_in_other_window(uint64_t address) {
  constexpr uint64_t kSize = kWindows[1] - kWindows[0];
  return std::ranges::any_of(std::span(kWindows).subspan(1),
                             [&](uint64_t window) { return address - window < kSize; });
}

Ending native_ending(const Outcome& outcome) {
  Ending ending{.ended = outcome.ran, .faults = {}, .after = outcome.after};
  ending.faults.push_back({.vector = outcome.vector,
                           .error_code = has_error_code(outcome.vector) ? outcome.error_code : 0,
                           .address = outcome.fault_address,
                           .rip = outcome.after.rip});
  std::memcpy(ending.memory.data(), outcome.program.data(), kProgramSize);
  std::memcpy(ending.memory.data() + kProgramSize, outcome.image.data(), kImageSize);
  std::ranges::copy(NativeProcessor::read_only_page(),
                    ending.memory.begin() + static_cast<ptrdiff_t>(kProgramSize + kImageSize));
  return ending;
}

}  // namespace

Laboratory::Count& Laboratory::Count::operator+=(const Count& other) {
  programs += other.programs;
  runs += other.runs;
  instructions += other.instructions;
  faulted += other.faulted;
  native += other.native;
  endless += other.endless;
  flags_lost += other.flags_lost;
  return *this;
}

std::string Laboratory::Count::text() const {
  return fmt::format(
      "{} programs, {} runs of {} instructions on average, {} of them with a fault, {} natively; "
      "{} without an end, {} that read flags which only their changed code reads",
      programs, runs, runs == 0 ? 0 : instructions / runs, faulted, native, endless, flags_lost);
}

Result<std::unique_ptr<Laboratory>> Laboratory::create(NativeProcessor* native) {
  auto self = std::make_unique<Laboratory>();
  self->native_ = native;
  self->steps_ = LIMEN_TRY(Machine::create(Machine::Kind::kSteps));
  self->interpreter_ = LIMEN_TRY(Machine::create(Machine::Kind::kInterpreter));
  self->translator_ = LIMEN_TRY(Machine::create(Machine::Kind::kTranslator));
  return self;
}

Laboratory::Verdict Laboratory::compare(const Program& program,
                                        std::span<const Situation> situations, bool any) {
  ++count_.programs;
  const auto code = program.assemble();
  for (Machine* machine : {steps_.get(), interpreter_.get(), translator_.get()})
    machine->load(code);
  std::vector<size_t> native_runs;
  std::vector<Ending> native_expected;
  Ending steps, expected, got;
  for (size_t i = 0; i < situations.size(); ++i) {
    Situation situation = situations[i];
    bind(program, situation);
    steps_->run(situation, kStepLimit, steps);
    if (any && steps_->has_undefined()) return {};
    if (!steps.ended) {  // not for the others, and not for the processor
      ++count_.endless;
      continue;
    }
    interpreter_->run(situation, kStepLimit, expected);
    const uint64_t strays = translator_->strays();
    translator_->run(situation, kStepLimit, got);
    ++count_.runs;
    count_.instructions += steps.steps;
    if (expected.ended && is_fault(expected.last().vector)) ++count_.faulted;
    undo_stray_jump(expected, got);
    std::string text = compare_endings(expected, got, {.dead_flags_differ = true});
    if (translator_->strays() != strays)
      return {"the translator's code accessed what is not the guest's\n" + text, i};
    if (!text.empty() && is_of_lost_flags(program, situations.first(i + 1), expected)) {
      ++count_.flags_lost;
      // They may have gone different ways.
      for (Machine* machine : {interpreter_.get(), translator_.get()}) machine->forget_dirty();
      continue;
    }
    if (!text.empty())
      return {"interpreter and translator:\n" + text + describe_changes(code, expected.memory), i};
    if (native_ != nullptr && program.native && is_native(situation) &&
        native_runs.size() < kBatchSize) {
      native_runs.push_back(i);
      native_expected.push_back(expected);
    }
  }
  if (native_runs.empty() || steps_->has_split_lock()) return {};
  size_t situation = 0;
  std::string text = compare_native(program, situations, native_runs, native_expected, situation);
  if (text.empty()) return {};
  return {"processor and interpreter:\n" + text, situation};
}

bool Laboratory::is_of_lost_flags(const Program& program, std::span<const Situation> situations,
                                  const Ending& expected) {
  const auto code = program.assemble();
  if (std::ranges::equal(code, std::span(expected.memory).first(code.size()))) return false;
  auto exact = Machine::create(Machine::Kind::kExactTranslator);
  if (!exact) return false;
  (*exact)->load(code);
  Ending got;
  for (Situation situation : situations) {
    bind(program, situation);
    (*exact)->run(situation, kStepLimit, got);
  }
  undo_stray_jump(expected, got);
  got.dirty = expected.dirty;  // those machines had a life before
  return compare_endings(expected, got, {}).empty();
}

std::string Laboratory::compare_native(const Program& program,
                                       std::span<const Situation> situations,
                                       std::span<const size_t> which,
                                       std::span<const Ending> expected, size_t& situation) {
  Batch& batch = native_->batch();
  batch.has_program = true;
  batch.program = program.assemble();
  batch.count = static_cast<unsigned>(which.size());
  for (unsigned i = 0; i < batch.count; ++i) {
    Situation bound = situations[which[i]];
    bind(program, bound);
    batch.trials[i].before = bound.before;
    batch.trials[i].code_size = 0;
    batch.trials[i].patches = {};
    std::memcpy(batch.image.data(), bound.memory.data() + kProgramSize, kImageSize);
  }
  if (!native_->start() || !native_->finish()) return "  the native child is gone\n";
  for (unsigned i = 0; i < batch.count; ++i) {
    const Ending native = native_ending(native_->outcomes()[i]);
    const bool strays = native.ended && is_in_other_window(native.last().address);
    // Which operands of vectors are checked is up to the processor.
    const bool alignment = native.ended && native.last().vector == kAlignmentVector;
    if (strays || alignment || may_fault_either_way(program, expected[i]) ||
        is_sanitizer_shadow(expected[i].last().address))
      continue;
    ++count_.native;
    std::string text = compare_endings(native, expected[i], {.native = true});
    situation = which[i];
    if (!text.empty()) return text;
  }
  return {};
}

}  // namespace limen::conformance
