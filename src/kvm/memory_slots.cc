#include "kvm/memory_slots.h"

#include <algorithm>
#include <cerrno>
#include <ranges>
#include <set>
#include <string>
#include <utility>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/kernel.h"

namespace limen::kvm {

std::vector<MemoryPiece> visible_memory(const memory::GuestMemory& memory) {
  // What hides others comes first: RAM, then mappings, the latest before the earlier ones.
  std::vector<MemoryPiece> layers;
  for (const auto& region : memory.regions())
    layers.push_back({region.start, region.size, region.host, true});
  for (const auto& mapping : memory.mappings() | std::views::reverse)
    layers.push_back({mapping.start, mapping.size, mapping.host, mapping.writable});
  std::set<uint64_t> edges;
  for (const auto& layer : layers) {
    edges.insert(layer.start.value);
    edges.insert(layer.start.value + layer.size);
  }
  std::vector<MemoryPiece> pieces;
  auto layer_of_last = layers.end();
  for (auto edge = edges.begin(); edge != edges.end() && std::next(edge) != edges.end(); ++edge) {
    const uint64_t start = *edge, size = *std::next(edge) - start;
    const auto shown = std::ranges::find_if(layers, [start](const MemoryPiece& layer) {
      return start - layer.start.value < layer.size;
    });
    if (shown == layers.end()) continue;
    // Pieces of one layer only: RAM must not move when what is beside it does.
    const bool goes_on = shown == layer_of_last && !pieces.empty() &&
                         pieces.back().start.value + pieces.back().size == start;
    if (goes_on)
      pieces.back().size += size;
    else
      pieces.push_back(
          {{start}, size, shown->host + (start - shown->start.value), shown->writable});
    layer_of_last = shown;
  }
  return pieces;
}

Result<std::unique_ptr<MemorySlots>> MemorySlots::create(const Device& device, int vm,
                                                         memory::GuestMemory& memory,
                                                         std::unique_ptr<DirtyRings> rings) {
  std::unique_ptr<MemorySlots> slots(new MemorySlots(device, vm, memory, std::move(rings)));
  {
    const std::lock_guard lock(slots->mutex_);
    LIMEN_TRY(slots->update());
  }
  memory.add_listener(*slots);
  return slots;
}

MemorySlots::MemorySlots(const Device& device, int vm, memory::GuestMemory& memory,
                         std::unique_ptr<DirtyRings> rings)
    : vm_(vm),
      memory_(memory),
      most_slots_(static_cast<uint32_t>(device.extension(KVM_CAP_NR_MEMSLOTS))),
      has_read_only_(device.extension(KVM_CAP_READONLY_MEM) > 0),
      rings_(std::move(rings)) {}

MemorySlots::~MemorySlots() { memory_.remove_listener(*this); }

Result<> MemorySlots::add_processor(int vcpu) {
  const std::lock_guard lock(mutex_);
  if (rings_ != nullptr) LIMEN_TRY(rings_->add_processor(vcpu));
  return {};
}

void MemorySlots::mappings_changed() {
  const std::lock_guard lock(mutex_);
  ++changes_;
  if (const auto updated = update(); !updated) log::error("{}", updated.error().message);
  ++changes_;
}

Result<> MemorySlots::update() {
  const auto wanted = visible_memory(memory_);
  const auto is_wanted = [&](const Slot& slot) {
    return std::ranges::find(wanted, slot.piece) != wanted.end();
  };
  // A slot does not change its place: it goes, and comes back.
  for (const auto& slot : slots_) {
    if (is_wanted(slot)) continue;
    LIMEN_TRY(take_bitmap(slot));
    LIMEN_TRY(set(slot.id, slot.piece, 0));
  }
  take_rings();  // while it is known what was in them
  std::erase_if(slots_, [&](const Slot& slot) { return !is_wanted(slot); });
  for (const auto& piece : wanted) {
    if (std::ranges::find(slots_, piece, &Slot::piece) != slots_.end()) continue;
    uint32_t id = 0;
    while (std::ranges::find(slots_, id, &Slot::id) != slots_.end()) ++id;
    if (id >= most_slots_)
      return fail(
          "accelerator 'kvm': the machine's memory has more than the {} pieces that this "
          "kernel can show",
          most_slots_);
    if (!piece.writable && !has_read_only_)
      return fail(
          "accelerator 'kvm': this kernel cannot show read-only memory, which firmware at "
          "{:#x} needs (KVM_CAP_READONLY_MEM, since Linux 3.7); use -accel soft",
          piece.start.value);
    LIMEN_TRY(set(id, piece, piece.size));
    slots_.push_back({id, piece, memory_.page_index(piece.start)});
  }
  return {};
}

Result<> MemorySlots::set(uint32_t id, const MemoryPiece& piece, uint64_t size) const {
  kvm_userspace_memory_region region{};
  region.slot = id;
  region.guest_phys_addr = piece.start.value;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<uintptr_t>(piece.host);
  if (!piece.writable) region.flags |= KVM_MEM_READONLY;
  if (logs_writes_ && piece.writable && size != 0) region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
  if (call(vm_, KVM_SET_USER_MEMORY_REGION, &region) < 0)
    return fail_errno(errno, fmt::format("accelerator 'kvm': {} {} bytes of memory at {:#x}",
                                         size == 0 ? "cannot take away" : "cannot show", piece.size,
                                         piece.start.value));
  return {};
}

bool MemorySlots::access(GuestPhysicalAddress address, std::span<std::byte> bytes, bool write) {
  const std::lock_guard lock(mutex_);  // slots are as the mappings are
  if (!write) return memory_.read(address, bytes).has_value();
  return !memory_.span(address, bytes.size()).empty() && memory_.write(address, bytes).has_value();
}

Result<> MemorySlots::log_writes(bool on) {
  const std::lock_guard lock(mutex_);
  logs_writes_ = on;
  for (const auto& slot : slots_) LIMEN_TRY(set(slot.id, slot.piece, slot.piece.size));
  take_rings();
  written_.clear();
  return {};
}

Result<std::vector<uint64_t>> MemorySlots::take_written() {
  const std::lock_guard lock(mutex_);
  if (!logs_writes_) return {};
  take_rings();
  for (const auto& slot : slots_) LIMEN_TRY(take_bitmap(slot));
  std::vector<uint64_t> pages(written_.begin(), written_.end());
  written_.clear();
  return pages;
}

void MemorySlots::empty_rings() {
  const std::lock_guard lock(mutex_);
  take_rings();
}

void MemorySlots::take_rings() {
  if (rings_ == nullptr) return;
  for (const auto& entry : rings_->take()) {
    const auto slot = std::ranges::find(slots_, entry.slot, &Slot::id);
    if (slot != slots_.end()) written_.insert(slot->first_page + entry.page);
  }
}

Result<> MemorySlots::take_bitmap(const Slot& slot) {
  if (!logs_writes_ || rings_ != nullptr || !slot.piece.writable) return {};
  constexpr unsigned kBits = 64;
  const uint64_t count = slot.piece.size / memory::kPageSize;
  std::vector<uint64_t> bits((count + kBits - 1) / kBits);
  kvm_dirty_log log{};
  log.slot = slot.id;
  log.dirty_bitmap = bits.data();
  LIMEN_TRY(try_call(vm_, KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", &log));
  for (uint64_t page = 0; page < count; ++page)
    if ((bits[page / kBits] >> (page % kBits) & 1) != 0) written_.insert(slot.first_page + page);
  return {};
}

}  // namespace limen::kvm
