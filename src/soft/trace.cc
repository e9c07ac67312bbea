#include "soft/trace.h"

#include <Zydis/Zydis.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "soft/cpu.h"

namespace limen::soft {
namespace {

constexpr size_t kPendingMost = 64 << 10;

const ZydisFormatter& formatter() {
  static const ZydisFormatter made = [] {
    ZydisFormatter intel;
    ZydisFormatterInit(&intel, ZYDIS_FORMATTER_STYLE_INTEL);
    return intel;
  }();
  return made;
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // a full disk does not end the machine
    text.remove_prefix(static_cast<size_t>(written));
  }
}

Result<UniqueFd> create_file(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0644));
  if (!fd.valid()) return fail("cannot write '{}': {}", path, std::strerror(errno));
  return fd;
}

}  // namespace

void append_instruction(std::string& text, uint64_t address,
                        const decode::Instruction& instruction) {
  std::array<char, 160> line{};
  ZydisFormatterFormatInstruction(&formatter(), &instruction.raw, instruction.operands.data(),
                                  instruction.raw.operand_count_visible, line.data(), line.size(),
                                  address, nullptr);
  std::string bytes;
  for (size_t i = 0; i < instruction.length(); ++i)
    fmt::format_to(std::back_inserter(bytes), "{:02x} ", instruction.bytes[i]);
  fmt::format_to(std::back_inserter(text), "0x{:016x}:  {:<24} {}\n", address, bytes, line.data());
}

Result<std::shared_ptr<Trace>> Trace::create(const TraceOptions& options) {
  std::shared_ptr<Trace> trace(new Trace(options));
  if (!options.file.empty()) trace->file_ = LIMEN_TRY(create_file(options.file, O_APPEND));
  // Where perf looks is a place that everybody can write to.
  if (options.perf_map)
    trace->map_ = LIMEN_TRY(create_file(fmt::format("/tmp/perf-{}.map", ::getpid()), O_NOFOLLOW));
  return trace;
}

Trace::~Trace() { flush_map(); }

void Trace::write(std::string_view text) {
  const std::lock_guard lock(mutex_);
  write_all(file_.valid() ? file_.get() : STDERR_FILENO, text);
}

void Trace::interrupt(const Cpu& cpu, uint8_t vector, bool software,
                      std::optional<uint32_t> error_code, uint64_t return_rip) {
  const auto& segments = cpu.system.segments;
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = interrupts_++;
  }
  std::string text = fmt::format(
      "{:6}: v={:02x} e={:04x} i={} cpl={} IP={:04x}:{:016x} pc={:016x} SP={:04x}:{:016x}", number,
      vector, error_code.value_or(0), software ? 1 : 0, cpu.cpl, segments[x86::kCs].selector,
      return_rip, cpu.code_linear(return_rip), segments[x86::kSs].selector, cpu.gpr[x86::kRsp]);
  if (vector == static_cast<uint8_t>(x86::Vector::kPageFault))
    fmt::format_to(std::back_inserter(text), " CR2={:016x}\n", cpu.system.cr2);
  else
    fmt::format_to(std::back_inserter(text), " RAX={:016x}\n", cpu.gpr[x86::kRax]);
  write(text);
}

void Trace::name_code(const uint8_t* code, size_t size, std::string_view name) {
  if (!options_.perf_map || size == 0) return;
  const std::lock_guard lock(mutex_);
  fmt::format_to(std::back_inserter(pending_), "{:x} {:x} {}\n", reinterpret_cast<uint64_t>(code),
                 size, name);
  if (pending_.size() >= kPendingMost) flush_map();
}

void Trace::flush_map() {
  if (map_.valid()) write_all(map_.get(), pending_);
  pending_.clear();
}

}  // namespace limen::soft
