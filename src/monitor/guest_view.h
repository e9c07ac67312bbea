// The guest's memory as one of its processors sees it, for whoever looks from outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "x86/cpu_state.h"

namespace limen::monitor {

/// One page that the tables map.
struct Mapping {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size = 0;
  uint64_t entry = 0;  ///< The entry that maps it, with the rights of all levels in bits 1 and 2.
  bool no_execute = false;
};

/// A processor that stands still, and the RAM; nothing of the guest changes by looking. With `mmio`
/// devices are read as well, which may notice.
class GuestView {
 public:
  GuestView(const memory::GuestMemory& memory, const x86::CpuState& state,
            const memory::IoSpace* mmio = nullptr)
      : memory_(memory), state_(state), mmio_(mmio) {}

  /// Where a linear address leads (SDM Vol. 3A 4.3 to 4.5), whatever the access's rights.
  [[nodiscard]] std::optional<uint64_t> physical_of(uint64_t linear) const;
  /// Every page that is mapped, in order of its linear address.
  void for_each_mapping(const std::function<void(const Mapping&)>& visit) const;

  /// False where there is neither RAM nor a device that was asked for, or nothing is mapped.
  bool read_physical(uint64_t address, std::span<std::byte> into) const;
  bool read_linear(uint64_t address, std::span<std::byte> into) const;

  /// The processor runs 64-bit code.
  [[nodiscard]] bool long_code() const;

 private:
  struct Shape {
    unsigned levels = 0;      ///< 0: paging is off.
    unsigned entry_size = 8;  ///< Bytes.
    unsigned index_bits = 9;
    bool long_mode = false;
  };
  [[nodiscard]] Shape shape() const;
  [[nodiscard]] std::optional<uint64_t> entry(const Shape& shape, uint64_t table,
                                              uint64_t index) const;
  [[nodiscard]] bool is_page(const Shape& shape, unsigned level, uint64_t entry) const;
  bool read_device(uint64_t address, std::span<std::byte> into) const;
  void walk(const Shape& shape, unsigned level, uint64_t table, const Mapping& so_far,
            const std::function<void(const Mapping&)>& visit) const;

  const memory::GuestMemory& memory_;
  const x86::CpuState& state_;
  const memory::IoSpace* const mmio_;
};

}  // namespace limen::monitor
