// What -d and perf are told of a block that was translated.
#pragma once

#include <span>

#include "soft/trace.h"
#include "soft/translate/item.h"

namespace limen::soft::translate {

/// A block's host code, where it runs: what often does, and what seldom.
struct HostCode {
  std::span<const uint8_t> often;
  std::span<const uint8_t> seldom;
};

void trace_block(Trace& trace, CodeKind kind, std::span<const Item> items, const HostCode& code);

}  // namespace limen::soft::translate
