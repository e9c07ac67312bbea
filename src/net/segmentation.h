// Segmentation in software, for an end that takes finished frames alone.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "net/frame.h"

namespace limen::net {

/// Called with one finished frame after the other; each is valid during the call.
using FrameSink = std::function<void(const Frame&)>;

/// Cuts a TCP segment or UDP datagram into what the wire takes, as `header` says, with checksums.
/// False: frame and header do not fit together, and nothing was given out.
bool segment_frame(std::span<std::byte> frame, const OffloadHeader& header, const FrameSink& sink);

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes each (RFC 791 §3.2), padding dropped.
/// False: it is no IPv4 packet, or may not be cut.
bool fragment_ip4(std::span<std::byte> frame, size_t mtu, const FrameSink& sink);

}  // namespace limen::net
