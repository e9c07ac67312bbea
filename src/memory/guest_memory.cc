#include "memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace limen::memory {
namespace {

/// Reserves addresses from a multiple of `alignment` on. MAP_FAILED: it could not.
void* reserve_aligned(size_t size, size_t alignment) {
  const size_t reserved = size + alignment;
  void* area =
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return MAP_FAILED;
  const auto start = reinterpret_cast<uintptr_t>(area);
  const uintptr_t aligned = (start + alignment - 1) & ~(alignment - 1);
  if (aligned != start) ::munmap(area, aligned - start);
  const uintptr_t end = (aligned + size + kPageSize - 1) & ~(kPageSize - 1);
  if (end < start + reserved) ::munmap(reinterpret_cast<void*>(end), start + reserved - end);
  return reinterpret_cast<void*>(aligned);
}

bool map_file(void* at, size_t size, int fd, bool shared, int reservation = MAP_NORESERVE) {
  return ::mmap(at, size, PROT_READ | PROT_WRITE,
                (shared ? MAP_SHARED : MAP_PRIVATE) | reservation | MAP_FIXED, fd, 0) != MAP_FAILED;
}

Result<UniqueFd> make_memfd(const char* name, uint64_t size) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "memfd_create for guest memory");
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, fmt::format("sizing guest memory to {} bytes", size));
  return fd;
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(std::span<const Layout> layout,
                                                         UniqueFd file, bool shared,
                                                         uint64_t beside) {
  std::unique_ptr<GuestMemory> memory(new GuestMemory);
  for (const auto& part : layout) {
    if (part.size == 0 || part.size % kPageSize != 0 || part.start.value % kPageSize != 0)
      return fail(
          "guest memory region of {} bytes at {:#x} is not a positive number of {}-byte pages",
          part.size, part.start.value, kPageSize);
    memory->size_ += part.skip;
    memory->regions_.push_back({part.start, part.size, memory->size_, nullptr});
    memory->size_ += part.size;
  }
  if (memory->size_ == 0) return fail("guest memory of 0 bytes: at least one page is needed");

  memory->shared_ = shared;
  memory->memfd_ = std::move(file);
  if (!memory->memfd_.valid()) memory->memfd_ = LIMEN_TRY(make_memfd("limen-ram", memory->size_));
  beside = (beside + kPageSize - 1) & ~(kPageSize - 1);
  const uint64_t total = memory->size_ + beside;
  const uint64_t file_page = page_size_of_file(memory->memfd_.get());
  if (memory->size_ % file_page != 0)
    return fail("guest memory of {} bytes does not consist of whole huge pages of {}",
                memory->size_, file_page);
  // From a multiple of a huge page on: only so can the host give huge pages to it.
  void* mapping = reserve_aligned(total, std::max<uint64_t>(file_page, kHugePageSize));
  if (mapping == MAP_FAILED)
    return fail_errno(errno, fmt::format("mapping {} bytes of guest memory", total));
  memory->mapping_ = static_cast<std::byte*>(mapping);
  memory->page_count_ = total >> kPageShift;
  // Of huge pages there are only so many: better to fail now than when the guest touches one.
  const bool few = file_page != kPageSize;
  if (!map_file(mapping, memory->size_, memory->memfd_.get(), shared, few ? 0 : MAP_NORESERVE))
    return fail_errno(
        errno, fmt::format("mapping {} bytes of guest memory{}", memory->size_,
                           few ? fmt::format(": it needs {} huge pages of {} bytes, which `sysctl "
                                             "vm.nr_hugepages` or the kernel's command line sets "
                                             "aside",
                                             memory->size_ / file_page, file_page)
                               : ""));
  if (beside != 0) {
    memory->beside_memfd_ = LIMEN_TRY(make_memfd("limen-beside-ram", beside));
    if (!map_file(memory->mapping_ + memory->size_, beside, memory->beside_memfd_.get(), true))
      return fail_errno(errno, fmt::format("mapping {} bytes of memory beside RAM", beside));
  }
  // Huge pages spare host page faults and TLB misses; a host that has none ignores the advice.
  ::madvise(mapping, memory->size_, MADV_HUGEPAGE);
  for (auto& region : memory->regions_) region.host = memory->mapping_ + region.file_offset;
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
  if (mapping_ != nullptr) ::munmap(mapping_, page_count_ << kPageShift);
}

std::span<std::byte> GuestMemory::span(GuestPhysicalAddress address, uint64_t size) const {
  for (const auto& region : regions_) {
    const uint64_t offset = address.value - region.start.value;
    if (offset < region.size) {
      if (size > region.size - offset) return {};
      return {region.host + offset, size};
    }
  }
  return mapped_span(address, size, true);
}

Result<> GuestMemory::read(GuestPhysicalAddress address, std::span<std::byte> into) const {
  auto from = span(address, into.size());
  if (from.size() != into.size()) from = mapped_span(address, into.size(), false);
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

Result<std::span<std::byte>> GuestMemory::reserve(uint64_t size) {
  size = (size + kPageSize - 1) & ~(kPageSize - 1);
  const uint64_t room = (page_count_ << kPageShift) - size_ - reserved_;
  if (size > room) return fail("{} bytes of memory beside RAM: {} are left", size, room);
  const std::span<std::byte> bytes{mapping_ + size_ + reserved_, size};
  reserved_ += size;
  return bytes;
}

void GuestMemory::map(GuestPhysicalAddress start, std::span<std::byte> bytes, bool writable) {
  {
    const std::lock_guard lock(mappings_mutex_);
    mappings_.push_back({start, bytes.size(), static_cast<uint64_t>(bytes.data() - mapping_),
                         bytes.data(), writable});
    has_mappings_.store(true, std::memory_order_release);
  }
  tell_listeners();
}

void GuestMemory::unmap(GuestPhysicalAddress start, std::span<const std::byte> bytes) {
  {
    const std::lock_guard lock(mappings_mutex_);
    const auto found = std::ranges::find_if(mappings_, [&](const Mapping& each) {
      return each.start == start && each.host == bytes.data() && each.size == bytes.size();
    });
    if (found == mappings_.end()) return;
    mappings_.erase(found);
    has_mappings_.store(!mappings_.empty(), std::memory_order_release);
  }
  tell_listeners();
}

std::vector<Mapping> GuestMemory::mappings() const {
  const std::lock_guard lock(mappings_mutex_);
  return mappings_;
}

void GuestMemory::add_listener(MappingListener& listener) {
  const std::lock_guard lock(mappings_mutex_);
  listeners_.push_back(&listener);
}

void GuestMemory::remove_listener(MappingListener& listener) {
  const std::lock_guard lock(mappings_mutex_);
  std::erase(listeners_, &listener);
}

void GuestMemory::tell_listeners() {
  std::vector<MappingListener*> listeners;
  {
    const std::lock_guard lock(mappings_mutex_);
    listeners = listeners_;
  }
  for (auto* listener : listeners) listener->mappings_changed();
}

const Mapping* GuestMemory::find_mapping(GuestPhysicalAddress address) const {
  for (auto mapping = mappings_.rbegin(); mapping != mappings_.rend(); ++mapping)
    if (address.value - mapping->start.value < mapping->size) return &*mapping;
  return nullptr;
}

uint64_t GuestMemory::mapped_page_index(GuestPhysicalAddress address) const {
  const std::lock_guard lock(mappings_mutex_);
  const Mapping* mapping = find_mapping(address);
  if (mapping == nullptr) return page_count_;
  return (mapping->file_offset + (address.value - mapping->start.value)) >> kPageShift;
}

std::span<std::byte> GuestMemory::mapped_span(GuestPhysicalAddress address, uint64_t size,
                                              bool to_write) const {
  if (!has_mappings_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(mappings_mutex_);
  const Mapping* mapping = find_mapping(address);
  if (mapping == nullptr || (to_write && !mapping->writable)) return {};
  const uint64_t offset = address.value - mapping->start.value;
  // What lies over its end may be another's, but a part that is hidden is hidden from all.
  if (size > mapping->size - offset) return {};
  return {mapping->host + offset, size};
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
