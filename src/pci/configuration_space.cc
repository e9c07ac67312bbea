#include "pci/configuration_space.h"

namespace limen::pci {

uint32_t ConfigurationSpace::read(uint16_t offset, unsigned size) const {
  uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned at = offset + i;
    value |= uint32_t{at < kSize ? bytes_[at] : uint8_t{0xFF}} << (8 * i);
  }
  return value;
}

void ConfigurationSpace::write(uint16_t offset, unsigned size, uint32_t value) {
  for (unsigned i = 0; i < size; ++i) {
    const unsigned at = offset + i;
    if (at >= kSize) return;
    const unsigned mask = write_mask_[at];
    bytes_[at] = static_cast<uint8_t>((bytes_[at] & ~mask) | (value >> (8 * i) & mask));
  }
}

void ConfigurationSpace::set16(uint16_t offset, uint16_t value) {
  bytes_[offset] = static_cast<uint8_t>(value);
  bytes_[offset + 1u] = static_cast<uint8_t>(value >> 8);
}

void ConfigurationSpace::set32(uint16_t offset, uint32_t value) {
  set16(offset, static_cast<uint16_t>(value));
  set16(static_cast<uint16_t>(offset + 2), static_cast<uint16_t>(value >> 16));
}

uint16_t ConfigurationSpace::get16(uint16_t offset) const {
  return static_cast<uint16_t>(read(offset, 2));
}

uint32_t ConfigurationSpace::get32(uint16_t offset) const { return read(offset, 4); }

void ConfigurationSpace::set_writable(uint16_t offset, unsigned size, uint32_t mask) {
  for (unsigned i = 0; i < size; ++i)
    write_mask_[offset + i] = static_cast<uint8_t>(mask >> (8 * i));
}

}  // namespace limen::pci
