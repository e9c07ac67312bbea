// What a person watches the engine by: -d in_asm, out_asm and int, and the map that perf reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "soft/decode/decoder.h"

namespace limen::soft {

struct Cpu;

struct TraceOptions {
  bool in_asm = false;      ///< Guest code, when it is translated.
  bool out_asm = false;     ///< The host code that it becomes.
  bool interrupts = false;  ///< Interrupts and exceptions, when they are delivered.
  std::string file = {};    ///< Where that goes; empty: standard error.
  bool perf_map = false;    ///< Write /tmp/perf-PID.map.

  [[nodiscard]] bool any() const { return in_asm || out_asm || interrupts || perf_map; }
};

/// A line of address, bytes and text.
void append_instruction(std::string& text, uint64_t address,
                        const decode::Instruction& instruction);

/// Takes text from every processor of a machine. Thread-safe.
class Trace {
 public:
  /// Opens the files. Errors name the one that could not be.
  static Result<std::shared_ptr<Trace>> create(const TraceOptions& options);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  [[nodiscard]] const TraceOptions& options() const { return options_; }

  /// Text that stays together.
  void write(std::string_view text);
  /// An event as it is about to be delivered; cpu.rip is where it meets the guest.
  void interrupt(const Cpu& cpu, uint8_t vector, bool software, std::optional<uint32_t> error_code,
                 uint64_t return_rip);
  /// `size` bytes at `code` will be called `name` by perf. Nothing without perf_map.
  void name_code(const uint8_t* code, size_t size, std::string_view name);

 private:
  explicit Trace(TraceOptions options) : options_(std::move(options)) {}
  void flush_map();  // mutex_ held

  const TraceOptions options_;
  std::mutex mutex_;
  UniqueFd file_;  // not valid: standard error
  UniqueFd map_;
  std::string pending_;  // of map_
  uint64_t interrupts_ = 0;
};

}  // namespace limen::soft
