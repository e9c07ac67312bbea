// Guest memory that a controller's DMA reaches, gathered from what the guest wrote into its tables.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "memory/guest_memory.h"
#include "x86/address.h"

namespace limen::storage {

class ScatterList {
 public:
  /// False: some of it is not RAM.
  [[nodiscard]] bool add(const memory::GuestMemory& memory, GuestPhysicalAddress address,
                         uint64_t length);
  /// Leaves what is beyond `bytes` out.
  void truncate(uint64_t bytes);
  /// After a device wrote there.
  void note_written(memory::GuestMemory& memory) const;

  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] const std::vector<iovec>& buffers() const { return buffers_; }

 private:
  std::vector<iovec> buffers_;
  std::vector<std::pair<GuestPhysicalAddress, uint64_t>> ranges_;
  uint64_t bytes_ = 0;
};

}  // namespace limen::storage
