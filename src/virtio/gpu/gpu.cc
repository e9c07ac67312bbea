#include "virtio/gpu/gpu.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "display/changes.h"

namespace limen::virtio {

using namespace gpu;

namespace {

constexpr unsigned kLeastScanout = 16, kCursorSize = 64;
/// Parts of the picture that are remembered one by one until it is drawn.
constexpr size_t kMostDamage = 32;

template <typename T>
std::optional<T> take(const DescriptorChain& chain) {
  T command{};
  const auto bytes = std::as_writable_bytes(std::span(&command, 1));
  if (chain.read(0, bytes) != bytes.size()) return {};
  return command;
}

template <typename T>
uint32_t give(const DescriptorChain& chain, const T& answer) {
  return static_cast<uint32_t>(chain.write(0, std::as_bytes(std::span(&answer, 1))));
}

/// The answer's header: a fence of the command's comes back (§5.7.6.7).
Header answer_to(const Header& command, Response type) {
  Header header{.type = static_cast<uint32_t>(type)};
  if ((command.flags & kFlagFence) != 0) {
    header.flags = kFlagFence;
    header.fence = command.fence;
    header.context = command.context;
  }
  return header;
}

}  // namespace

Gpu::Gpu(const GpuProperties& properties, memory::GuestMemory& memory)
    : properties_(properties), resources_(memory, properties.max_hostmem) {}

void Gpu::read_configuration(size_t offset, std::span<std::byte> into) {
  std::array<uint32_t, 4> configuration{0, 0, 1, 0};  // events, to clear, scanouts, capability sets
  {
    const std::lock_guard lock(mutex_);
    configuration[0] = events_;
  }
  std::memcpy(into.data(), std::as_bytes(std::span(configuration)).data() + offset, into.size());
}

void Gpu::write_configuration(size_t offset, std::span<const std::byte> from) {
  constexpr size_t kEventsClear = 4;
  if (offset != kEventsClear || from.size() != 4) return;
  uint32_t clear = 0;
  std::memcpy(&clear, from.data(), sizeof clear);
  const std::lock_guard lock(mutex_);
  events_ &= ~clear;
}

void Gpu::queue_notified(unsigned index) {
  bool interrupt = false;
  {
    const std::lock_guard lock(mutex_);
    auto& queue = transport_->queue(index);
    while (const auto chain = queue.pop()) {
      uint32_t written = 0;
      if (index == kControl)
        written = control_locked(*chain);
      else
        cursor_locked(*chain);
      interrupt |= queue.push(*chain, written);
    }
  }
  if (interrupt) transport_->interrupt_queue(index);
}

uint32_t Gpu::control_locked(const DescriptorChain& chain) {
  const auto header = take<Header>(chain);
  if (!header)
    return give(chain, Header{.type = static_cast<uint32_t>(Response::kErrorUnspecified)});
  if (header->type == static_cast<uint32_t>(Command::kGetDisplayInfo))
    return display_info_locked(*header, chain);
  if (header->type == static_cast<uint32_t>(Command::kGetEdid)) return edid_locked(*header, chain);
  return give(chain, answer_to(*header, carry_out_locked(*header, chain)));
}

Response Gpu::carry_out_locked(const Header& header, const DescriptorChain& chain) {
  switch (static_cast<Command>(header.type)) {
    case Command::kResourceCreate2d:
      if (const auto command = take<ResourceCreate2d>(chain)) return resources_.create(*command);
      break;
    case Command::kResourceUnref:
      if (const auto command = take<ResourceUnref>(chain)) {
        if (command->resource != 0 && command->resource == scanout_resource_)
          remove_scanout_locked();
        return resources_.remove(command->resource);
      }
      break;
    case Command::kSetScanout:
      if (const auto command = take<SetScanout>(chain)) return set_scanout_locked(*command);
      break;
    case Command::kResourceFlush:
      if (const auto command = take<ResourceFlush>(chain)) return flush_locked(*command);
      break;
    case Command::kTransferToHost2d:
      if (const auto command = take<TransferToHost2d>(chain)) return resources_.transfer(*command);
      break;
    case Command::kResourceAttachBacking:
      return attach_locked(chain);
    case Command::kResourceDetachBacking:
      if (const auto command = take<ResourceUnref>(chain))
        return resources_.detach(command->resource);
      break;
    default:
      break;
  }
  return Response::kErrorUnspecified;
}

Response Gpu::attach_locked(const DescriptorChain& chain) {
  const auto command = take<ResourceAttachBacking>(chain);
  if (!command) return Response::kErrorUnspecified;
  // The request itself says how many there are at the most.
  const uint64_t there =
      (chain.readable_bytes - sizeof *command) / sizeof(ResourceAttachBacking::Entry);
  if (command->entries > there) return Response::kErrorUnspecified;
  std::vector<ResourceAttachBacking::Entry> entries(command->entries);
  chain.read(sizeof *command, std::as_writable_bytes(std::span(entries)));
  return resources_.attach(command->resource, entries);
}

Response Gpu::set_scanout_locked(const SetScanout& command) {
  if (command.scanout != 0) return Response::kErrorInvalidScanoutId;
  if (command.resource == 0) {
    remove_scanout_locked();
    return Response::kOkNoData;
  }
  const auto* const resource = resources_.find(command.resource);
  if (resource == nullptr) return Response::kErrorInvalidResourceId;
  const auto& area = command.area;
  if (!resource->contains(area) || area.width < kLeastScanout || area.height < kLeastScanout)
    return Response::kErrorInvalidParameter;
  scanout_resource_ = command.resource;
  scanout_ = area;
  damage_.assign(1, {0, 0, area.width, area.height});
  return Response::kOkNoData;
}

void Gpu::remove_scanout_locked() {
  scanout_resource_ = 0;
  damage_.clear();
}

Response Gpu::flush_locked(const ResourceFlush& command) {
  const auto* const resource = resources_.find(command.resource);
  if (resource == nullptr) return Response::kErrorInvalidResourceId;
  const auto& area = command.area;
  if (!resource->contains(area)) return Response::kErrorInvalidParameter;
  if (command.resource != scanout_resource_) return Response::kOkNoData;
  // What of it shows.
  const uint32_t left = std::max(area.x, scanout_.x), top = std::max(area.y, scanout_.y);
  const uint32_t right = std::min(area.x + area.width, scanout_.x + scanout_.width);
  const uint32_t bottom = std::min(area.y + area.height, scanout_.y + scanout_.height);
  if (left >= right || top >= bottom) return Response::kOkNoData;
  display::add_part(damage_, {left - scanout_.x, top - scanout_.y, right - left, bottom - top},
                    kMostDamage);
  return Response::kOkNoData;
}

display::EdidProperties Gpu::preferred_locked() const {
  if (wished_width_ == 0 || wished_height_ == 0) return {properties_.width, properties_.height};
  return {wished_width_, wished_height_};
}

uint32_t Gpu::display_info_locked(const Header& header, const DescriptorChain& chain) {
  DisplayInfo info{.header = answer_to(header, Response::kOkDisplayInfo)};
  const auto preferred = preferred_locked();
  info.modes[0] = {.area = {0, 0, preferred.width, preferred.height}, .enabled = 1};
  return give(chain, info);
}

uint32_t Gpu::edid_locked(const Header& header, const DescriptorChain& chain) {
  const auto command = take<GetEdid>(chain);
  if (!command || command->scanout != 0 || !properties_.edid)
    return give(chain, answer_to(header, Response::kErrorInvalidParameter));
  Edid edid{.header = answer_to(header, Response::kOkEdid)};
  const auto block = display::make_edid(preferred_locked());
  edid.size = static_cast<uint32_t>(block.size());
  std::ranges::copy(block, edid.bytes.begin());
  return give(chain, edid);
}

/// Where the pointer is does not matter: a viewer shows it where its own is.
void Gpu::cursor_locked(const DescriptorChain& chain) {
  const auto command = take<UpdateCursor>(chain);
  if (!command || command->scanout != 0 ||
      command->header.type != static_cast<uint32_t>(Command::kUpdateCursor))
    return;
  if (command->resource == 0) {
    pointer_ = nullptr;
    return;
  }
  const auto* const resource = resources_.find(command->resource);
  if (resource == nullptr || resource->width != kCursorSize || resource->height != kCursorSize)
    return;
  auto image = std::make_shared<display::Pointer>();
  image->width = image->height = kCursorSize;
  image->hot_x = std::min(command->hot_x, kCursorSize - 1);
  image->hot_y = std::min(command->hot_y, kCursorSize - 1);
  image->pixels.resize(size_t{kCursorSize} * kCursorSize);
  for (uint32_t y = 0; y < kCursorSize; ++y)
    resource->read_row(0, y, kCursorSize, image->pixels.data() + size_t{y} * kCursorSize,
                       kColoursAndAlpha);
  pointer_ = std::move(image);
}

void Gpu::reset() {
  const std::lock_guard lock(mutex_);
  remove_scanout_locked();
  resources_.clear();
  pointer_ = nullptr;
  events_ = 0;
}

// --- The picture --------------------------------------------------------------------------------

void Gpu::update(display::Frame& frame, bool all, std::vector<display::Rectangle>& changed) {
  std::unique_lock lock(mutex_);
  const auto* const resource = resources_.find(scanout_resource_);
  const bool vga = resource == nullptr && properties_.vga != nullptr;
  if (vga != std::exchange(shows_vga_, vga)) all = true;
  if (resource == nullptr) {
    lock.unlock();
    if (vga)
      properties_.vga->update(frame, all, changed);
    else
      frame = {};
    return;
  }
  if (frame.width != scanout_.width || frame.height != scanout_.height) {
    frame.resize(scanout_.width, scanout_.height);
    all = true;
  }
  if (all) damage_.assign(1, {0, 0, frame.width, frame.height});
  for (const auto& part : damage_) {
    for (unsigned y = part.y; y < part.y + part.height; ++y)
      resource->read_row(scanout_.x + part.x, scanout_.y + y, part.width, frame.row(y) + part.x,
                         kColours);
    changed.push_back(part);
  }
  damage_.clear();
}

std::optional<display::TextFrame> Gpu::text() {
  {
    const std::lock_guard lock(mutex_);
    if (scanout_resource_ != 0 || properties_.vga == nullptr) return {};
  }
  return properties_.vga->text();
}

std::shared_ptr<const display::Pointer> Gpu::pointer() {
  const std::lock_guard lock(mutex_);
  return pointer_;
}

void Gpu::wish_size(unsigned width, unsigned height) {
  {
    const std::lock_guard lock(mutex_);
    if (width == wished_width_ && height == wished_height_) return;
    wished_width_ = width;
    wished_height_ = height;
    events_ |= kEventDisplay;
  }
  if (transport_ != nullptr) transport_->configuration_changed();
}

}  // namespace limen::virtio
