// What the MMU makes of memory that comes and goes beside RAM.
#include "mmu_fixture.h"

namespace limen::soft {
namespace {

class MappedMemory : public MmuTest {
 protected:
  static constexpr uint64_t kPlace = kDevice + 0x1000;

  MappedMemory() {
    const std::array<memory::GuestMemory::Layout, 1> layout{{{.start = {0}, .size = kRamSize}}};
    mmu_.reset();
    ram_ = std::move(*memory::GuestMemory::create(layout, {}, true, 2 * memory::kPageSize));
    mmu_ = std::make_unique<Mmu>(*ram_, mmio_);
    set_mode();
    bytes_ = *ram_->reserve(memory::kPageSize);
  }
  ~MappedMemory() override { mmu_.reset(); }

  std::span<std::byte> bytes_;
};

TEST_F(MappedMemory, IsSeenOnceTheProcessorLooks) {
  EXPECT_EQ(mmu_->read<uint8_t>(kPlace + 0x10), 0x10) << "the device";
  bytes_[0x10] = std::byte{0xAB};
  ram_->map({kPlace}, bytes_);
  mmu_->follow_mappings();
  EXPECT_EQ(mmu_->read<uint8_t>(kPlace + 0x10), 0xAB);
  mmu_->write<uint32_t>(kPlace + 0x20, 0x1234'5678);
  EXPECT_EQ(bytes_[0x20], std::byte{0x78});
  ram_->unmap({kPlace}, bytes_);
  mmu_->follow_mappings();
  EXPECT_EQ(mmu_->read<uint8_t>(kPlace + 0x10), 0x10);
}

TEST_F(MappedMemory, StoresToWhatCannotBeWrittenGoToTheDevice) {
  bytes_[0] = std::byte{0x55};
  ram_->map({kPlace}, bytes_, false);
  mmu_->follow_mappings();
  EXPECT_EQ(mmu_->read<uint8_t>(kPlace), 0x55);
  mmu_->write<uint16_t>(kPlace, 0xF00D);
  EXPECT_EQ(mmu_->read<uint8_t>(kPlace), 0x55);
  ASSERT_EQ(device_.accesses.size(), 1u);
  EXPECT_EQ(device_.accesses[0], (RecordingDevice::Access{true, kPlace - kDevice, 2, 0xF00D}));
  EXPECT_EQ(mmu_->host_for_write(kPlace, 1), nullptr);
  EXPECT_EQ(mmu_->place_for_locked(kPlace, 4).host, nullptr);
}

TEST_F(MappedMemory, CodeInItHasAPageNumberOfItsOwn) {
  ram_->map({kPlace}, bytes_, false);
  mmu_->follow_mappings();
  const auto page = mmu_->fetch(kPlace + 4);
  EXPECT_EQ(page.host_page, reinterpret_cast<const uint8_t*>(bytes_.data()));
  EXPECT_EQ(page.ram_page, kRamSize / memory::kPageSize);
}

TEST_F(MappedMemory, PageTablesThatCannotBeWrittenKeepTheirBits) {
  long_mode();
  const uint64_t leaf = map(0x40'0000, 0x20'0000, kPresent | kWritable);
  // A copy of the leaf's table, without A and D bits, where a store does not reach.
  const uint64_t leaf_table = leaf & ~uint64_t{0xFFF};
  std::memcpy(bytes_.data(), ram_->span({leaf_table}, memory::kPageSize).data(), memory::kPageSize);
  ram_->map({kPlace}, bytes_, false);
  mmu_->follow_mappings();
  const uint64_t directory = leaf_table - 0x1000;
  poke<uint64_t>(directory + (0x40'0000 >> 21 & 0x1FF) * 8,
                 kPlace | kPresent | kWritable | kUserPage);
  const auto before = std::vector(bytes_.begin(), bytes_.end());
  mmu_->write<uint8_t>(0x40'0000, 7);
  EXPECT_EQ(peek<uint8_t>(0x20'0000), 7);
  EXPECT_TRUE(std::ranges::equal(before, bytes_));
}

}  // namespace
}  // namespace limen::soft
