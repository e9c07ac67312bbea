#include "device/fw_cfg.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace limen::device {
namespace {

constexpr uint64_t kSelectorSize = 2, kData = 1, kDma = 4, kDmaSize = 8;
constexpr uint16_t kFirstFile = 0x20;
constexpr uint32_t kTraditionalInterface = 1, kDmaInterface = 2;
constexpr std::string_view kDmaSignature = "QEMU CFG";
constexpr size_t kNameField = 56;

// A request: control, length, address, all big-endian.
constexpr size_t kRequestSize = 16;
constexpr uint32_t kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16;

uint32_t big32(const std::byte* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap32(value);
}
void append_big32(FwCfg::Bytes& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<uint8_t>(value >> shift));
}

}  // namespace

FwCfg::FwCfg(memory::IoSpace& ports, const Config& config)
    : ports_(ports), memory_(config.memory), next_key_(kFirstFile) {
  constexpr std::string_view kName = "QEMU";
  set(kSignature, {kName.begin(), kName.end()});
  set_number(kId, kTraditionalInterface | (memory_ != nullptr ? kDmaInterface : 0));
  set_number(kRamSize, config.ram_bytes);
  set_number(kProcessors, config.processors);
  set_number(kMostProcessors, config.most_processors);
  rebuild_directory();
  ports_.claim(kPort, memory_ != nullptr ? kPorts : kSelectorSize, *this, "fw_cfg");
}

FwCfg::~FwCfg() { ports_.release(kPort, *this); }

void FwCfg::set(uint16_t key, Bytes content) {
  const std::lock_guard lock(mutex_);
  items_[key] = {std::move(content), {}};
}

void FwCfg::set_file(const std::string& name, Bytes content) {
  const std::lock_guard lock(mutex_);
  auto& file = files_[name];
  if (file.key == 0) file.key = next_key_++;
  file.size = content.size();
  items_[file.key] = {std::move(content), {}};
  rebuild_directory();
}

void FwCfg::set_file(const std::string& name, size_t size, std::function<Bytes()> make) {
  const std::lock_guard lock(mutex_);
  auto& file = files_[name];
  if (file.key == 0) file.key = next_key_++;
  file.size = size;
  items_[file.key] = {{}, std::move(make)};
  rebuild_directory();
}

FwCfg::Bytes FwCfg::file(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(name);
  if (found == files_.end()) return {};
  const Item& item = items_[found->second.key];
  return item.make ? item.make() : item.content;
}

void FwCfg::rebuild_directory() {
  Bytes directory;
  append_big32(directory, static_cast<uint32_t>(files_.size()));
  for (const auto& [name, file] : files_) {
    append_big32(directory, static_cast<uint32_t>(file.size));
    append_big32(directory, uint32_t{file.key} << 16);  // and 16 bits that are reserved
    std::array<char, kNameField> field{};
    std::ranges::copy(name.substr(0, kMostNameBytes), field.begin());
    directory.insert(directory.end(), field.begin(), field.end());
  }
  items_[kFileDirectory] = {std::move(directory), {}};
}

void FwCfg::reset() {
  const std::lock_guard lock(mutex_);
  selected_ = 0;
  next_ = 0;
  dma_address_ = 0;
}

void FwCfg::select(uint16_t key) {
  selected_ = key;
  next_ = 0;
  if (const auto item = items_.find(key); item != items_.end() && item->second.make)
    item->second.content = item->second.make();
}

uint8_t FwCfg::read_byte() {
  const auto item = items_.find(selected_);
  return item != items_.end() && next_ < item->second.content.size() ? item->second.content[next_++]
                                                                     : 0;
}

uint64_t FwCfg::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  if (offset == kData) return read_byte();
  uint64_t value = 0;
  if (offset >= kDma)
    for (unsigned i = 0; i < size && offset - kDma + i < kDmaSignature.size(); ++i)
      value |= uint64_t{static_cast<uint8_t>(kDmaSignature[offset - kDma + i])} << (8 * i);
  return value;
}

void FwCfg::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (offset == 0 && size == kSelectorSize) return select(static_cast<uint16_t>(value));
  // The address is big-endian; writing its low half starts the transfer.
  if (offset == kDma && size == 4) {
    dma_address_ = uint64_t{__builtin_bswap32(static_cast<uint32_t>(value))} << 32;
  } else if (offset == kDma + 4 && size == 4) {
    dma_address_ |= __builtin_bswap32(static_cast<uint32_t>(value));
    transfer(std::exchange(dma_address_, 0));
  } else if (offset == kDma && size == kDmaSize) {
    dma_address_ = 0;
    transfer(__builtin_bswap64(value));
  }
}

void FwCfg::transfer(uint64_t request) {
  const auto header = memory_->span({request}, kRequestSize);
  if (header.empty()) return;  // nowhere to say so
  const uint32_t control = big32(header.data());
  uint64_t length = big32(header.data() + 4);
  uint64_t address = uint64_t{big32(header.data() + 8)} << 32 | big32(header.data() + 12);
  if ((control & kSelect) != 0) select(static_cast<uint16_t>(control >> 16));

  uint32_t outcome = 0;
  const auto item = items_.find(selected_);
  const size_t there = item != items_.end() ? item->second.content.size() - next_ : 0;
  if ((control & kRead) != 0) {
    // What lies behind the item's end reads as zeroes.
    const auto copied = static_cast<size_t>(std::min<uint64_t>(length, there));
    if (copied != 0) {
      const auto* from = reinterpret_cast<const std::byte*>(item->second.content.data() + next_);
      if (!memory_->write({address}, {from, copied})) outcome = kError;
      next_ += copied;
      address += copied;
      length -= copied;
    }
    constexpr std::array<std::byte, 4096> kZeroes{};
    while (outcome == 0 && length != 0) {
      const auto part = static_cast<size_t>(std::min<uint64_t>(length, kZeroes.size()));
      if (!memory_->write({address}, std::span(kZeroes).first(part))) outcome = kError;
      address += part;
      length -= part;
    }
  } else if ((control & kWrite) != 0) {
    outcome = kError;  // nothing here can be written
  } else if ((control & kSkip) != 0) {
    next_ += static_cast<size_t>(std::min<uint64_t>(length, there));
  }
  const uint32_t answer = __builtin_bswap32(outcome);
  std::memcpy(header.data(), &answer, sizeof answer);
  memory_->note_written({request}, sizeof answer);
}

}  // namespace limen::device
