#include "soft/translate/trace_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <string>

#include "soft/translate/quiet.h"

namespace limen::soft::translate {
namespace {

/// LEA R11, [RIP + 5] and JMP rel32 call a function; behind them stands the CallSite, which is
/// data.
bool loads_call_site(std::span<const uint8_t> code) {
  constexpr std::array<uint8_t, 7> kLoad = {0x4C, 0x8D, 0x1D, 5, 0, 0, 0};
  return code.size() >= kLoad.size() && std::equal(kLoad.begin(), kLoad.end(), code.begin());
}

size_t size_of_call_site(std::span<const uint8_t> code) {
  CallSite site{};
  if (code.size() < sizeof site) return code.size();
  std::memcpy(&site, code.data(), sizeof site);
  return site.of == CallSite::Of::kWindow || site.of == CallSite::Of::kStack ? sizeof(WindowSite)
                                                                             : sizeof(CallSite);
}

void append_host_code(std::string& text, std::span<const uint8_t> code) {
  bool data_follows = false;
  while (!code.empty()) {
    const auto address = reinterpret_cast<uint64_t>(code.data());
    const bool calls = loads_call_site(code);
    decode::Instruction instruction;
    size_t size = 1;
    if (decode::decode(decode::CodeMode::k64, code, instruction) == decode::Outcome::kOk) {
      append_instruction(text, address, instruction);
      size = instruction.length();
    } else {
      fmt::format_to(std::back_inserter(text), "0x{:016x}:  {:02x}\n", address, code.front());
    }
    code = code.subspan(size);
    if (data_follows) {
      const size_t skipped = std::min(size_of_call_site(code), code.size());
      fmt::format_to(std::back_inserter(text), "                     ({} bytes of data)\n",
                     skipped);
      code = code.subspan(skipped);
    }
    data_follows = calls;
  }
}

}  // namespace

void trace_block(Trace& trace, CodeKind kind, std::span<const Item> items, const HostCode& code) {
  if (items.empty()) return;
  const uint64_t start = items.front().rip;
  const std::string_view ring = kind.user ? "user" : "kernel";
  const auto& options = trace.options();
  std::string text;
  if (options.in_asm) {
    fmt::format_to(std::back_inserter(text), "----------------\nIN: {}\n", ring);
    for (const Item& item : items)
      if (decode::Instruction instruction;
          decode::decode(kind.mode(), item.code(), instruction) == decode::Outcome::kOk)
        append_instruction(text, item.rip, instruction);
    text += '\n';
  }
  if (options.out_asm) {
    fmt::format_to(std::back_inserter(text), "OUT: [size={}] for 0x{:016x}\n",
                   code.often.size() + code.seldom.size(), start);
    append_host_code(text, code.often);
    fmt::format_to(std::back_inserter(text), "  -- seldom run [size={}]\n", code.seldom.size());
    append_host_code(text, code.seldom);
    text += '\n';
  }
  if (!text.empty()) trace.write(text);
  trace.name_code(code.often.data(), code.often.size(),
                  fmt::format("guest-{}:0x{:x}", ring, start));
  trace.name_code(code.seldom.data(), code.seldom.size(),
                  fmt::format("guest-{}:0x{:x} (seldom)", ring, start));
}

}  // namespace limen::soft::translate
