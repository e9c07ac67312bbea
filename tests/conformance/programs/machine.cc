#include "conformance/programs/machine.h"

#include <cpuid.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "conformance/aim.h"
#include "conformance/guest_tables.h"
#include "conformance/native_processor.h"
#include "conformance/soft_guest.h"
#include "soft/interpret/runner.h"
#include "x86/exception.h"

namespace limen::conformance {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace): register names

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
// Behind the pages of guest_tables.h.
constexpr uint64_t kProgramPages = 0x20000;  ///< In the order of Page.
constexpr uint64_t kHighTables = 0x28000;    ///< PDPT, PD and PT of the last window but one.
constexpr uint64_t kTopTables = 0x2B000;     ///< PD and PT of the last one.
constexpr uint64_t kLowPageTable = 0x4000;   ///< guest_tables.cc's.
constexpr uint64_t kLowDirectories = 0x2000;
constexpr uint16_t kKernelData = 0x18;
constexpr uint8_t kBreakpointVector = 3, kDebugVector = 1, kPageFaultVector = 14;
constexpr std::chrono::seconds kPatience{20};

// Ends a run that does not end by itself.
class Watchdog {
 public:
  explicit Watchdog(soft::interpret::Runner& runner)
      : thread_([this, &runner](const std::stop_token& stop) { watch(stop, runner); }) {}
  void begin() {
    const std::lock_guard lock(mutex_);
    running_ = true;
    ++run_;
    wake_.notify_one();
  }
  void end() {
    const std::lock_guard lock(mutex_);
    running_ = false;
  }

 private:
  void watch(const std::stop_token& stop, soft::interpret::Runner& runner) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      if (!wake_.wait(lock, stop, [&] { return running_; })) return;
      const uint64_t run = run_;
      const bool over =
          wake_.wait_for(lock, stop, kPatience, [&] { return !running_ || run_ != run; });
      if (!over && running_ && run_ == run) runner.kick();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;
  bool running_ = false;
  uint64_t run_ = 0;
  std::jthread thread_;
};

bool is_undefined(const soft::decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      return true;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: {
      const auto& count = instruction.operands[1];
      return count.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && (count.imm.value.u & 63) > 1;
    }
    default:
      return false;
  }
}

uint64_t pte_of(const Mapping& mapping) {
  return (kProgramPages + mapping.shows * kPage) | (mapping.present ? kPresent : 0) |
         (mapping.writable ? kWritable : 0) | (mapping.user ? kUser : 0) |
         (mapping.executable ? 0 : kNoExecute);
}

}  // namespace

struct Machine::Guest : SoftGuest {
  Guest(std::unique_ptr<memory::GuestMemory> memory, Kind which)
      : SoftGuest(std::move(memory), which >= Kind::kTranslator ? kCodeCacheSize : 0),
        kind(which),
        watchdog(runner) {
    // Faults at CPL 0 need a stack that the program does not choose (SDM Vol. 3A 6.14.5).
    for (uint64_t vector = 0; vector < 256; ++vector) change(kIdt + vector * 16, 0, 1ull << 32);
    change(kTss + 36, 0, kSupervisorBase + kKernelStackTop);
    constexpr uint64_t kTable = kPresent | kWritable | kUser;
    const uint64_t high = kWindows[kHighWindow], top = kWindows[kTopWindow];
    change(kLowDirectories + (top >> 30 & 511) * 8, 0, kTopTables | kTable);
    change(kTopTables + (top >> 21 & 511) * 8, 0, (kTopTables + kPage) | kTable);
    change(kPageTableRoot + (high >> 39 & 511) * 8, 0, kHighTables | kTable);
    change(kHighTables + (high >> 30 & 511) * 8, 0, (kHighTables + kPage) | kTable);
    change(kHighTables + kPage + (high >> 21 & 511) * 8, 0, (kHighTables + 2 * kPage) | kTable);
    for (auto& window : mapped)
      for (auto& mapping : window) mapping.present = false;
    if (which == Kind::kExactTranslator) runner.translator()->keep_dead_flags();
    const auto page = NativeProcessor::read_only_page();
    std::ranges::copy(std::as_bytes(page), read_only_page.begin());
  }

  static constexpr size_t kCodeCacheSize = size_t{2} << 20;

  Kind kind;
  std::array<uint8_t, kCodeSize> code{};
  std::array<std::byte, kPage> read_only_page;
  std::array<std::array<Mapping, kPageCount>, kWindows.size()> mapped;
  bool split_lock = false;
  bool undefined = false;
  Watchdog watchdog;

  void change(uint64_t physical, uint64_t clear, uint64_t set) const {
    uint64_t value = 0;
    std::memcpy(&value, host(physical), 8);
    value = (value & ~clear) | set;
    std::memcpy(host(physical), &value, 8);
  }
  [[nodiscard]] static uint64_t linear_of(unsigned window, size_t page) {
    return kWindows[window] + kPageOffsets[page];
  }
  [[nodiscard]] static uint64_t entry_of(unsigned window, size_t page) {
    const uint64_t table = window == kHighWindow  ? kHighTables + 2 * kPage
                           : window == kTopWindow ? kTopTables + kPage
                                                  : kLowPageTable;
    return table + (linear_of(window, page) >> 12 & 511) * 8;
  }
  void map(unsigned window, size_t page, const Mapping& mapping) {
    if (mapped[window][page] == mapping) return;
    mapped[window][page] = mapping;
    change(entry_of(window, page), ~uint64_t{0}, pte_of(mapping));
    cpu.mmu.invalidate_page(linear_of(window, page));
  }
  void put(size_t page, const void* bytes) {
    std::byte* at = host(kProgramPages + page * kPage);
    if (std::memcmp(at, bytes, kPage) == 0) return;
    std::memcpy(at, bytes, kPage);
    ram->note_written({kProgramPages + page * kPage}, kPage);
  }
  void prepare(const Situation& situation);
  /// Whether the fault was of a page that comes when it is asked for.
  bool supply(const Situation& situation, const Fault& fault);
  bool run_steps(unsigned& left, Fault& fault);
  bool run_to_fault(Fault& fault, Outcome& outcome);
  void look_at_instruction();
  void store(const Situation& situation, Ending& ending) const;
};

void Machine::Guest::prepare(const Situation& situation) {
  for (size_t i = 0; i < kPageCount; ++i) {
    if (i < 2)
      put(i, code.data() + i * kPage);
    else if (i == static_cast<size_t>(Page::kReadOnly))
      put(i, read_only_page.data());
    else
      put(i, situation.memory.data() + i * kPage);
    map(situation.window, i, situation.mappings[i]);
  }
  constexpr uint64_t kProtection = cr4::kSmap | cr4::kSmep;
  cpu.system.cr4 = (cpu.system.cr4 & ~kProtection) | (situation.smap ? kProtection : 0);
  cpu.system.kernel_gs_base = situation.before.gs_base + 8;
  load_registers(situation.before);
}

bool Machine::Guest::supply(const Situation& situation, const Fault& fault) {
  if (!situation.demand || fault.vector != kPageFaultVector) return false;
  for (size_t i = 0; i < kPageCount; ++i) {
    if (linear_of(situation.window, i) != (fault.address & ~(kPage - 1))) continue;
    Mapping mapping = mapped[situation.window][i];
    const bool was_present = mapping.present;
    if (was_present && ((fault.error_code & 2) == 0 || mapping.writable)) return false;
    mapping.present = true;
    if (was_present) mapping.writable = true;
    map(situation.window, i, mapping);
    return true;
  }
  return false;
}

void Machine::Guest::look_at_instruction() {
  std::array<uint8_t, soft::decode::kMaxInstructionLength> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto physical = cpu.mmu.translate(cpu.rip + i);
    if (!physical) break;
    bytes[i] = static_cast<uint8_t>(*host(physical->value));
  }
  Concrete concrete;
  if (decode(cpu.mode, bytes, concrete.instruction) != soft::decode::Outcome::kOk) return;
  const auto& instruction = concrete.instruction;
  undefined = undefined || is_undefined(instruction);
  if (!instruction.has(ZYDIS_ATTRIB_HAS_LOCK) && instruction.mnemonic() != ZYDIS_MNEMONIC_XCHG)
    return;
  concrete.bytes.size = instruction.length();
  Registers registers;
  std::copy_n(cpu.gpr.begin(), 16, registers.gpr.begin());
  registers.rip = cpu.rip;
  registers.fs_base = cpu.system.segments[kFs].base;
  registers.gs_base = cpu.system.segments[kGs].base;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    uint64_t linear = linear_address(operand, concrete, registers);
    if (instruction.mnemonic() == ZYDIS_MNEMONIC_BTS ||
        instruction.mnemonic() == ZYDIS_MNEMONIC_BTR ||
        instruction.mnemonic() == ZYDIS_MNEMONIC_BTC)
      linear += 64 - operand.size / 8u;  // where the bit string reaches is not looked for
    if (linear % 64 + operand.size / 8u > 64) split_lock = true;
  }
}

bool Machine::Guest::run_steps(unsigned& left, Fault& fault) {
  while (left != 0) {
    --left;
    look_at_instruction();
    fault.rip = cpu.rip;
    const auto exception = runner.step();
    if (exception) {
      fault.vector = static_cast<uint8_t>(exception->vector);
      fault.error_code = exception->error_code;
      fault.address = fault.vector == kPageFaultVector ? exception->fault_address : 0;
      return true;
    }
    if (cpu.activity.halted) return false;
    const bool delivered = cpu.rip - (kSupervisorBase + kHandlers) < kPage;
    if (delivered || (cpu.flags_rest & rflags::kTrap) != 0) {
      fault.vector = delivered ? kBreakpointVector : kDebugVector;
      return true;
    }
  }
  return false;
}

bool Machine::Guest::run_to_fault(Fault& fault, Outcome& outcome) {
  exit_ports.hit = false;
  watchdog.begin();
  (void)runner.run();
  watchdog.end();
  store_outcome(outcome);
  fault = {.vector = outcome.vector,
           .error_code = has_error_code(outcome.vector) ? outcome.error_code : 0,
           .address = outcome.fault_address,
           .rip = outcome.after.rip};
  return outcome.ran;
}

void Machine::Guest::store(const Situation& situation, Ending& ending) const {
  ending.kernel_gs_base = cpu.system.kernel_gs_base;
  std::memcpy(ending.memory.data(), host(kProgramPages), ending.memory.size());
  for (size_t i = 0; i < kPageCount; ++i) {
    uint64_t entry = 0;
    std::memcpy(&entry, host(entry_of(situation.window, i)), 8);
    ending.dirty[i] = (entry & kDirty) != 0;
  }
}

Result<std::unique_ptr<Machine>> Machine::create(Kind kind) {
  auto guest = std::make_unique<Guest>(LIMEN_TRY(SoftGuest::create_memory()), kind);
  return std::unique_ptr<Machine>(new Machine(std::move(guest)));
}

Machine::Machine(std::unique_ptr<Guest> guest) : guest_(std::move(guest)) {}
Machine::~Machine() = default;

void Machine::load(const std::array<uint8_t, kCodeSize>& code) {
  guest_->code = code;
  guest_->split_lock = guest_->undefined = false;
}

void Machine::forget_dirty() {
  for (unsigned window = 0; window < kWindows.size(); ++window)
    for (size_t page = 0; page < kPageCount; ++page) {
      guest_->change(Guest::entry_of(window, page), kDirty, 0);
      guest_->cpu.mmu.invalidate_page(Guest::linear_of(window, page));
    }
}

bool Machine::has_split_lock() const { return guest_->split_lock; }
uint64_t Machine::strays() const { return guest_->runner.translator()->statistics().strays; }

bool Machine::has_undefined() const { return guest_->undefined; }

void Machine::run(const Situation& situation, unsigned limit, Ending& ending) {
  constexpr unsigned kMostFaults = 12;
  Guest& guest = *guest_;
  guest.prepare(situation);
  ending.faults.clear();
  const unsigned most = limit;
  for (;;) {
    Fault fault;
    Outcome outcome;
    ending.ended = guest.kind == Kind::kSteps ? guest.run_steps(limit, fault)
                                              : guest.run_to_fault(fault, outcome);
    ending.steps = most - limit;
    if (!ending.ended) return;
    ending.faults.push_back(fault);
    if (ending.faults.size() > kMostFaults || !guest.supply(situation, fault)) {
      ending.after = outcome.after;
      guest.store(situation, ending);
      return;
    }
    if (guest.kind == Kind::kSteps) continue;
    // As IRET would, without RF: what faulted is to run as everything does.
    Registers again = outcome.after;
    again.rflags &= ~rflags::kResume;
    const uint64_t address = guest.cpu.system.cr2;
    const uint64_t kernel_gs_base = guest.cpu.system.kernel_gs_base;
    guest.load_registers(again);
    guest.cpu.system.cr2 = address;
    guest.cpu.system.kernel_gs_base = kernel_gs_base;
  }
}

}  // namespace limen::conformance
