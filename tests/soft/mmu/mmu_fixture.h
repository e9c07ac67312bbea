// A guest memory with page tables built by hand, for tests of the MMU.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/mmu/mmu.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::soft {

inline constexpr uint64_t kPresent = 1, kWritable = 2, kUserPage = 4, kAccessed = 0x20,
                          kDirty = 0x40, kLarge = 0x80, kGlobal = 0x100,
                          kNoExecute = uint64_t{1} << 63;

/// Records device accesses and answers reads with the offset's low byte in every byte.
class RecordingDevice : public memory::IoHandler {
 public:
  struct Access {
    bool write;
    uint64_t offset;
    unsigned size;
    uint64_t value;
    bool operator==(const Access&) const = default;
  };
  uint64_t io_read(uint64_t offset, unsigned size) override {
    accesses.push_back({false, offset, size, 0});
    return 0x0101'0101'0101'0101 * (offset & 0xFF);
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    accesses.push_back({true, offset, size, value});
  }
  std::vector<Access> accesses;
};

class MmuTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kRamSize = 16 << 20;
  static constexpr uint64_t kDevice = 0xE000'0000;
  static constexpr uint64_t kRoot = 0x1000;

  MmuTest() {
    const std::array<memory::GuestMemory::Layout, 1> layout{{{.start = {0}, .size = kRamSize}}};
    ram_ = std::move(*memory::GuestMemory::create(layout));
    mmio_.claim(kDevice, 0x10000, device_, "test");
    mmu_ = std::make_unique<Mmu>(*ram_, mmio_);
    set_mode();
  }

  /// Applies `mode_`.
  void set_mode() { mmu_->set_mode(mode_); }
  void long_mode(uint64_t more_cr4 = 0, uint64_t more_efer = 0) {
    mode_.cr0 |= x86::cr0::kProtection | x86::cr0::kPaging | x86::cr0::kWriteProtect;
    mode_.cr4 |= x86::cr4::kPae | more_cr4;
    mode_.efer |= x86::efer::kLme | x86::efer::kLma | more_efer;
    mode_.cr3 = kRoot;
    set_mode();
  }
  void pae_mode() {
    mode_.cr0 |= x86::cr0::kProtection | x86::cr0::kPaging | x86::cr0::kWriteProtect;
    mode_.cr4 |= x86::cr4::kPae;
    mode_.efer |= x86::efer::kNxe;
    mode_.cr3 = kRoot;
    set_mode();
  }
  void legacy_mode(uint64_t more_cr4 = 0) {
    mode_.cr0 |= x86::cr0::kProtection | x86::cr0::kPaging | x86::cr0::kWriteProtect;
    mode_.cr4 |= more_cr4;
    mode_.cr3 = kRoot;
    set_mode();
  }
  void user(bool on = true) {
    mode_.user = on;
    set_mode();
  }

  template <typename T>
  T peek(uint64_t physical) const {
    T value;
    std::memcpy(&value, ram_->span({physical}, sizeof value).data(), sizeof value);
    return value;
  }
  template <typename T>
  void poke(uint64_t physical, T value) {
    std::memcpy(ram_->span({physical}, sizeof value).data(), &value, sizeof value);
  }

  uint64_t new_table() { return next_table_ += 0x1000; }

  /// Maps `linear` in the 4-level tables at `root`; `shift` 12, 21 or 30 chooses the page size.
  /// Upper levels get `upper_flags`. Returns the physical address of the leaf entry.
  uint64_t map(uint64_t linear, uint64_t physical, uint64_t flags, unsigned shift = 12,
               uint64_t root = kRoot, uint64_t upper_flags = kPresent | kWritable | kUserPage) {
    uint64_t table = root;
    for (unsigned level_shift = 39; level_shift > shift; level_shift -= 9)
      table = descend(table + (linear >> level_shift & 0x1FF) * 8, upper_flags);
    const uint64_t entry = table + (linear >> shift & 0x1FF) * 8;
    poke<uint64_t>(entry, physical | flags | (shift > 12 ? kLarge : 0));
    return entry;
  }
  /// The same for PAE paging, whose root holds four pointers.
  uint64_t map_pae(uint64_t linear, uint64_t physical, uint64_t flags, unsigned shift = 12) {
    uint64_t table = descend(kRoot + (linear >> 30 & 3) * 8, kPresent);
    if (shift == 12)
      table = descend(table + (linear >> 21 & 0x1FF) * 8, kPresent | kWritable | kUserPage);
    const uint64_t entry = table + (linear >> shift & 0x1FF) * 8;
    poke<uint64_t>(entry, physical | flags | (shift > 12 ? kLarge : 0));
    return entry;
  }
  /// The same for 32-bit paging.
  uint64_t map_32(uint32_t linear, uint32_t physical, uint32_t flags) {
    const uint64_t directory = kRoot + (linear >> 22) * 4;
    if (peek<uint32_t>(directory) == 0)
      poke<uint32_t>(directory,
                     static_cast<uint32_t>(new_table() | kPresent | kWritable | kUserPage));
    const uint64_t entry = (peek<uint32_t>(directory) & 0xFFFFF000) + (linear >> 12 & 0x3FF) * 4;
    poke<uint32_t>(entry, physical | flags);
    return entry;
  }

  /// The exception that `access` raises, or nothing.
  template <typename Access>
  static std::optional<x86::Exception> caught(Access access) {
    try {
      access();
    } catch (const x86::Exception& exception) {
      return exception;
    }
    return std::nullopt;
  }
  /// The #PF error code of a read, a write, a fetch; -1: no fault; -2: another exception.
  int read_fault(uint64_t linear) {
    return code_of(caught([&] { mmu_->read<uint8_t>(linear); }), linear);
  }
  int write_fault(uint64_t linear) {
    return code_of(caught([&] { mmu_->write<uint8_t>(linear, 0); }), linear);
  }
  int fetch_fault(uint64_t linear) {
    return code_of(caught([&] { mmu_->fetch(linear); }), linear);
  }
  static int code_of(const std::optional<x86::Exception>& exception, uint64_t linear) {
    if (!exception) return -1;
    if (exception->vector != x86::Vector::kPageFault) return -2;
    EXPECT_TRUE(exception->has_error_code);
    EXPECT_EQ(exception->fault_address, linear);
    return static_cast<int>(exception->error_code);
  }

  std::unique_ptr<memory::GuestMemory> ram_;
  memory::IoSpace mmio_{"mmio"};
  RecordingDevice device_;
  MmuMode mode_;
  std::unique_ptr<Mmu> mmu_;

 private:
  uint64_t descend(uint64_t entry, uint64_t flags) {
    if (peek<uint64_t>(entry) == 0) poke<uint64_t>(entry, new_table() | flags);
    return peek<uint64_t>(entry) & 0x000F'FFFF'FFFF'F000;
  }

  uint64_t next_table_ = 0x10000;
};

inline constexpr int kNoFault = -1;

}  // namespace limen::soft
