// Decoded code, kept by guest-physical address and code mode: straight runs of Operations that end
// at a branch, at an instruction after which the mode may differ, or at the end of the page.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "soft/cpu.h"
#include "soft/interpret/operation.h"

namespace limen::soft::interpret {

struct alignas(64) Block {
  uint64_t key = 0;
  Block* next = nullptr;  ///< In the same bucket.
  uint64_t ram_page = 0;  ///< Where its bytes stand, and the page's code generation when decoded.
  uint32_t generation = 0;
  uint16_t count = 0;   ///< Operations.
  uint16_t length = 0;  ///< Bytes of guest code.
  /// The one instruction of this block begins in ram_page and ends in second_page.
  bool crosses_page = false;
  /// The last instruction may have changed what interrupts the processor takes.
  bool ends_in_system = false;
  uint32_t second_generation = 0;
  uint64_t second_page = 0;
  const std::atomic<uint32_t>* generation_now = nullptr;  ///< What `generation` is compared with.

  [[nodiscard]] const Operation* operations() const {
    return reinterpret_cast<const Operation*>(this + 1);
  }
};
static_assert(sizeof(Block) == 64, "operations follow in whole cache lines");

class BlockCache {
 public:
  /// `capacity` in bytes; when it is full everything is dropped and decoded anew.
  explicit BlockCache(size_t capacity = size_t{96} << 20);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// The block at CS:cpu.rip, decoded now if need be. Throws x86::Exception where the fetch faults.
  /// Valid until the next call.
  const Block& find(Cpu& cpu) {
    const uint64_t linear = cpu.code_linear(cpu.rip);
    const uint64_t stamp = cpu.mmu.fetch_stamp() << 2 | static_cast<uint64_t>(cpu.mode);
    Jump& jump = jumps_[(linear ^ linear >> 12) % kJumps];
    if (jump.linear == linear && jump.stamp == stamp &&
        jump.block->generation_now->load(std::memory_order_acquire) == jump.block->generation)
        [[likely]]
      return *jump.block;
    Block& block = find_physical(cpu, linear);
    if (!block.crosses_page && block.generation_now != nullptr) jump = {linear, stamp, &block};
    return block;
  }

 private:
  /// The block that a linear address led to, as long as translations and mode stay what they were.
  struct Jump {
    uint64_t linear = 0;
    uint64_t stamp = ~uint64_t{0};
    Block* block = nullptr;
  };
  static constexpr size_t kJumps = 8192;

  Block& find_physical(Cpu& cpu, uint64_t linear) {
    const FetchResult page = cpu.mmu.fetch(linear);
    const uint64_t key = make_key(page, linear, cpu.mode);
    for (Block* block = buckets_[bucket_of(key)]; block != nullptr; block = block->next)
      if (block->key == key && is_current(cpu, *block, linear)) [[likely]]
        return *block;
    return build(cpu, page, linear, key);
  }

  static constexpr size_t kBuckets = size_t{1} << 17;
  static constexpr unsigned kMaxOperations = 32;

  static uint64_t make_key(const FetchResult& page, uint64_t linear, decode::CodeMode mode) {
    return ((page.page.value | (linear & 0xFFF)) << 2) | static_cast<uint64_t>(mode);
  }
  static size_t bucket_of(uint64_t key) { return (key * 0x9E3779B97F4A7C15u) >> (64 - 17); }

  static bool is_current(Cpu& cpu, const Block& block, uint64_t linear) {
    if (block.generation_now->load(std::memory_order_acquire) != block.generation) return false;
    return !block.crosses_page || second_page_is_current(cpu, block, linear);
  }
  static bool second_page_is_current(Cpu& cpu, const Block& block, uint64_t linear);

  Block& build(Cpu& cpu, const FetchResult& page, uint64_t linear, uint64_t key);
  Block* allocate(uint64_t key);
  void drop_all();

  std::byte* arena_ = nullptr;
  size_t capacity_;
  size_t used_ = 0;
  std::vector<Jump> jumps_;
  std::vector<Block*> buckets_;
};

/// Fills `operation` for the decoded instruction: generic fields, then the handler of the first
/// class that knows it.
void make_operation(Cpu& cpu, const decode::Instruction& instruction, Operation& operation);

}  // namespace limen::soft::interpret
