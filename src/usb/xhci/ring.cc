#include "usb/xhci/ring.h"

#include <span>

namespace limen::usb::xhci {
namespace {

constexpr unsigned kMostLinks = 32;
constexpr size_t kMostBlocks = 4096;

}  // namespace

Fetched Ring::fetch(const memory::GuestMemory& memory, PlacedTrb& into) {
  for (unsigned links = 0; links <= kMostLinks; ++links) {
    into.address = dequeue;
    if (!memory.read({dequeue}, std::as_writable_bytes(std::span(&into.trb, 1))))
      return Fetched::kBroken;
    if (into.trb.cycle() != cycle) return Fetched::kNone;
    if (into.trb.type() != kLink) {
      dequeue += sizeof(Trb);
      return Fetched::kSome;
    }
    dequeue = into.trb.parameter & ~uint64_t{0xF};
    if ((into.trb.control & trb::kToggleCycle) != 0) cycle = !cycle;
  }
  return Fetched::kBroken;
}

Fetched Ring::fetch_descriptor(const memory::GuestMemory& memory, std::vector<PlacedTrb>& into) {
  into.clear();
  Ring ahead = *this;
  do {
    if (into.size() == kMostBlocks) return Fetched::kBroken;
    const auto fetched = ahead.fetch(memory, into.emplace_back());
    if (fetched != Fetched::kSome) return fetched;
  } while ((into.back().trb.control & trb::kChain) != 0);
  *this = ahead;
  return Fetched::kSome;
}

}  // namespace limen::usb::xhci
