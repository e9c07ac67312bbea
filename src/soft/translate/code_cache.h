// The memory of one vCPU's translated code, and of the data that the code compares itself with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace limen::soft::translate {

/// Code that nobody can write while it may run. Where the host has protection keys for user pages
/// (SDM Vol. 3A 4.6.2), it is huge pages of anonymous memory that are writable for an Edit's
/// lifetime only and for the thread that has it; elsewhere shared memory mapped twice, the writable
/// view being for the translator alone, in huge pages where the host gives shared memory such when
/// it is asked (Linux 6.1): without them large programs run a tenth to a quarter slower. Behind the
/// code stands data, writable and not executable.
class CodeCache {
 public:
  /// Sizes in bytes. Tries to place the code within 2 GiB of `near`. Throws std::bad_alloc where
  /// the host has no room.
  CodeCache(size_t code_size, size_t data_size, const void* near);
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;

  /// To be called by the thread that runs the code, before it does.
  void prepare_thread() const;

  /// While there is one, this thread may write code(). They do not nest.
  class Edit {
   public:
    explicit Edit(const CodeCache& cache);
    ~Edit();
    Edit(const Edit&) = delete;
    Edit& operator=(const Edit&) = delete;

   private:
    int key_;
  };

  /// Has the host give memory for a part of the code that is about to be written: page by page, as
  /// they are written, that takes much longer. Returns up to which offset there is memory now.
  uint32_t populate(uint32_t offset, size_t size) const;

  [[nodiscard]] std::span<uint8_t> code() const { return {writable_, code_size_}; }
  /// Where the host runs what was written at an offset.
  [[nodiscard]] const uint8_t* executable(uint32_t offset) const { return executable_ + offset; }
  /// The offset of a host address, if it is one of the code's.
  [[nodiscard]] bool contains(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(executable_) < code_size_;
  }
  [[nodiscard]] uint32_t offset_of(uintptr_t address) const {
    return static_cast<uint32_t>(address - reinterpret_cast<uintptr_t>(executable_));
  }
  /// Bytes of code and data that are in the host's memory.
  [[nodiscard]] size_t resident_bytes() const;
  /// Whether they count as the process's own memory, not as shared.
  [[nodiscard]] bool is_private() const { return key_ >= 0; }
  [[nodiscard]] uint32_t data_offset() const { return static_cast<uint32_t>(code_size_); }
  [[nodiscard]] uint8_t* data() const { return writable_ + code_size_; }

 private:
  bool map_protected(const void* near);
  void map_twice(const void* near);

  size_t code_size_;
  size_t size_;
  uint8_t* writable_ = nullptr;
  uint8_t* executable_ = nullptr;
  int key_ = -1;  // of map_protected()
  void* area_ = nullptr;
  size_t area_size_ = 0;
};

}  // namespace limen::soft::translate
