#include "memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace limen::memory {
namespace {

/// Maps the file at a multiple of a huge page: only so can the host give it huge pages.
/// MAP_FAILED: it could not.
void* map_aligned(int fd, size_t size, bool shared) {
  const size_t reserved = size + kHugePageSize;
  void* area =
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return MAP_FAILED;
  const auto start = reinterpret_cast<uintptr_t>(area);
  const uintptr_t aligned = (start + kHugePageSize - 1) & ~(kHugePageSize - 1);
  void* mapping = ::mmap(reinterpret_cast<void*>(aligned), size, PROT_READ | PROT_WRITE,
                         (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE | MAP_FIXED, fd, 0);
  const int error = errno;
  // What is left of the reservation, or, had it failed, all of it.
  const size_t before = mapping == MAP_FAILED ? reserved : aligned - start;
  if (before != 0) ::munmap(area, before);
  const uintptr_t end = (aligned + size + kPageSize - 1) & ~(kPageSize - 1);
  if (mapping != MAP_FAILED && end < start + reserved)
    ::munmap(reinterpret_cast<void*>(end), start + reserved - end);
  errno = error;
  return mapping;
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(std::span<const Layout> layout,
                                                         UniqueFd file, bool shared) {
  std::unique_ptr<GuestMemory> memory(new GuestMemory);
  for (const auto& part : layout) {
    if (part.size == 0 || part.size % kPageSize != 0 || part.start.value % kPageSize != 0)
      return fail(
          "guest memory region of {} bytes at {:#x} is not a positive number of {}-byte pages",
          part.size, part.start.value, kPageSize);
    memory->regions_.push_back({part.start, part.size, memory->size_, nullptr});
    memory->size_ += part.size;
  }
  if (memory->size_ == 0) return fail("guest memory of 0 bytes: at least one page is needed");

  memory->shared_ = shared;
  memory->memfd_ = std::move(file);
  if (!memory->memfd_.valid()) {
    memory->memfd_.reset(::memfd_create("limen-ram", MFD_CLOEXEC));
    if (!memory->memfd_.valid()) return fail_errno(errno, "memfd_create for guest memory");
    if (::ftruncate(memory->memfd_.get(), static_cast<off_t>(memory->size_)) != 0)
      return fail_errno(errno, fmt::format("sizing guest memory to {} bytes", memory->size_));
  }
  void* mapping = map_aligned(memory->memfd_.get(), memory->size_, shared);
  if (mapping == MAP_FAILED)
    return fail_errno(errno, fmt::format("mapping {} bytes of guest memory", memory->size_));
  memory->mapping_ = static_cast<std::byte*>(mapping);
  // Huge pages spare host page faults and TLB misses; a host that has none ignores the advice.
  ::madvise(mapping, memory->size_, MADV_HUGEPAGE);
  for (auto& region : memory->regions_) region.host = memory->mapping_ + region.file_offset;
  memory->page_count_ = memory->size_ >> kPageShift;
  memory->code_generation_ = std::make_unique<std::atomic<uint32_t>[]>(memory->page_count_);
  memory->has_code_ = std::make_unique<std::atomic<bool>[]>(memory->page_count_);
  memory->lookups_ = std::make_unique<std::atomic<uint16_t>[]>(memory->size_ / kHugePageSize + 1);
  return memory;
}

Result<> GuestMemory::preallocate() {
  if (::fallocate(memfd_.get(), 0, 0, static_cast<off_t>(size_)) != 0)
    return fail_errno(errno, "qemu_prealloc_mem: preallocating memory failed");
  return {};
}

GuestMemory::~GuestMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, size_);
}

std::span<std::byte> GuestMemory::span(GuestPhysicalAddress address, uint64_t size) const {
  for (const auto& region : regions_) {
    const uint64_t offset = address.value - region.start.value;
    if (offset < region.size) {
      if (size > region.size - offset) return {};
      return {region.host + offset, size};
    }
  }
  return {};
}

Result<> GuestMemory::read(GuestPhysicalAddress address, std::span<std::byte> into) const {
  const auto from = span(address, into.size());
  if (from.size() != into.size())
    return fail("guest-physical range {:#x}+{:#x} is not RAM", address.value, into.size());
  if (!into.empty()) std::memcpy(into.data(), from.data(), into.size());
  return {};
}

Result<> GuestMemory::write(GuestPhysicalAddress address, std::span<const std::byte> from) {
  const auto into = span(address, from.size());
  if (into.size() != from.size())
    return fail("guest-physical range {:#x}+{:#x} is not RAM", address.value, from.size());
  if (!from.empty()) std::memcpy(into.data(), from.data(), from.size());
  note_written(address, from.size());
  return {};
}

void GuestMemory::discard(GuestPhysicalAddress address, uint64_t size) {
  if (!shared_) return;  // the file is not the guest's to make holes in
  for (const auto& region : regions_) {
    // In the region, in whole pages.
    uint64_t start = std::max(address.value, region.start.value);
    uint64_t end = std::min(address.value + size, region.start.value + region.size);
    start = (start + kPageSize - 1) & ~(kPageSize - 1);
    end &= ~(kPageSize - 1);
    if (start >= end) continue;
    const uint64_t offset = region.file_offset + (start - region.start.value);
    // In the file, so that it is gone for every process that maps it. Where that cannot be done,
    // the pages just stay.
    if (::fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(offset), static_cast<off_t>(end - start)) == 0)
      note_written({start}, end - start);
  }
}

}  // namespace limen::memory
