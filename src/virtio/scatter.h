// Parts of a chain's buffers, for system calls.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "virtio/virtqueue.h"

namespace limen::virtio {

/// The parts of `buffers` that hold bytes [skip, skip + count), neighbours joined.
[[nodiscard]] std::vector<iovec> slice(const std::vector<Buffer>& buffers, uint64_t skip,
                                       uint64_t count);

}  // namespace limen::virtio
