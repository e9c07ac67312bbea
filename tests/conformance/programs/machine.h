// The software engine with a program's pages in it, wherever a situation puts them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "conformance/programs/program.h"
#include "conformance/soft_processor.h"

namespace limen::conformance {

/// How one page of the window is mapped.
struct Mapping {
  uint8_t shows = 0;  ///< Which page of RAM: a number as in Page.
  bool present = true;
  bool writable = true;
  bool executable = false;
  bool user = true;
  bool operator==(const Mapping&) const = default;
};

/// Where and from what state a program runs.
struct Situation {
  unsigned window = 0;
  int32_t entry = 0;  ///< The piece of the program that it starts with.
  std::array<Mapping, kPageCount> mappings;
  /// Pages that are not present, or not writable, become so when the program faults on them.
  bool demand = false;
  bool supervisor = false;
  bool code32 = false;
  bool smap = false;
  Registers before;  ///< RIP follows from `entry`: see bind().
  Memory memory{};   ///< By page of RAM, without the code.
};

struct Fault {
  uint8_t vector = 0;
  uint32_t error_code = 0;
  uint64_t address = 0;  ///< CR2, for #PF only.
  uint64_t rip = 0;
  bool operator==(const Fault&) const = default;
};

struct Ending {
  bool ended = false;
  uint64_t steps = 0;         ///< Instructions, where they are counted.
  std::vector<Fault> faults;  ///< The last ended the program.
  Registers after;
  uint64_t kernel_gs_base = 0;
  Memory memory{};
  std::array<bool, kPageCount> dirty{};  ///< Pages of the window; since the page tables were made.

  [[nodiscard]] const Fault& last() const { return faults.back(); }
};

class Machine {
 public:
  /// kExactTranslator keeps the flags that the translator may lose (docs/engine.md).
  enum class Kind : uint8_t { kSteps, kInterpreter, kTranslator, kExactTranslator };
  static Result<std::unique_ptr<Machine>> create(Kind kind);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Puts the program in memory; what was translated from pages that stay as they are is kept.
  void load(const std::array<uint8_t, kCodeSize>& code);
  /// Runs from situation.before to the first fault that is final. `ended` is false when
  /// `limit` instructions (single steps) or some seconds (otherwise) were not enough.
  void run(const Situation& situation, unsigned limit, Ending& ending);
  /// From now on, no page is dirty.
  void forget_dirty();
  /// What the steps met since load(). A locked access across cache lines, which no host likes:
  [[nodiscard]] bool has_split_lock() const;
  /// An instruction whose outcome is another one each time, or whose flags are not defined and
  /// differ with the form in which it is run.
  [[nodiscard]] bool has_undefined() const;
  /// Accesses of translated code, so far, to where the host has nothing.
  [[nodiscard]] uint64_t strays() const;

 private:
  struct Guest;
  explicit Machine(std::unique_ptr<Guest> guest);
  std::unique_ptr<Guest> guest_;
};

}  // namespace limen::conformance
