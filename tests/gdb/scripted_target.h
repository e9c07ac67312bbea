// A target of two processors whose memory is one page at 1000H; what it is told is written down.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "gdb/target.h"

namespace limen::gdb::testing {

class ScriptedTarget final : public Target {
 public:
  static constexpr uint64_t kMemory = 0x1000;

  unsigned processor_count() override { return 2; }
  RegisterFile registers(unsigned processor) override { return files.at(processor); }
  void set_registers(unsigned processor, const RegisterFile& file) override {
    files.at(processor) = file;
  }
  bool halted(unsigned processor) override { return processor == 1; }
  size_t read_memory(unsigned, uint64_t address, bool physical,
                     std::span<std::byte> into) override {
    last_physical = physical;
    const size_t size = inside(address, into.size());
    if (size != 0) std::memcpy(into.data(), memory.data() + (address - kMemory), size);
    return size;
  }
  bool write_memory(unsigned, uint64_t address, bool, std::span<const std::byte> from) override {
    const size_t size = inside(address, from.size());
    if (size != 0) std::memcpy(memory.data() + (address - kMemory), from.data(), size);
    return size == from.size();
  }
  bool running() override { return runs; }
  void stop() override {
    runs = false;
    if (stopped) stopped();
  }
  Result<> resume(std::span<const Action> actions, const Stops& at, bool hold) override {
    last_actions.assign(actions.begin(), actions.end());
    stops = at;
    holds_interrupts = hold;
    if (refuses) return fail("no");
    runs = true;
    return {};
  }
  void let_go() override {
    let_go_count++;
    runs = true;
  }
  void quit() override { quit_count++; }
  std::string monitor(std::string_view command) override {
    return "you said " + std::string(command) + "\n";
  }

  std::array<RegisterFile, 2> files{};
  std::array<std::byte, 4096> memory{};
  bool runs = false;
  bool refuses = false;
  bool last_physical = false;
  bool holds_interrupts = false;
  std::vector<Action> last_actions;
  Stops stops;
  int let_go_count = 0;
  int quit_count = 0;
  std::function<void()> stopped;

 private:
  static size_t inside(uint64_t address, size_t size) {
    if (address < kMemory || address >= kMemory + 4096) return 0;
    return std::min<size_t>(size, kMemory + 4096 - address);
  }
};

}  // namespace limen::gdb::testing
