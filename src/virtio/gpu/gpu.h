// virtio-gpu: pictures that a driver draws in its memory and has shown (virtio 1.2 §5.7). Two
// dimensions, one scanout.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "display/edid.h"
#include "display/screen.h"
#include "memory/guest_memory.h"
#include "virtio/gpu/protocol.h"
#include "virtio/gpu/resources.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-gpu-pci, with QEMU's meaning and defaults.
struct GpuProperties {
  unsigned width = 1280, height = 800;  ///< That the driver is told to prefer.
  bool edid = true;
  uint64_t max_hostmem = uint64_t{256} << 20;  ///< Bytes for resources.
  /// virtio-vga: what shows until a driver sets a scanout; it outlives the device. Null: none.
  display::Source* vga = nullptr;
};

class Gpu final : public VirtioDevice, public display::Source {
 public:
  /// `memory` outlives the device.
  Gpu(const GpuProperties& properties, memory::GuestMemory& memory);

  // VirtioDevice:
  DeviceType type() const override { return DeviceType::kGpu; }
  uint32_t pci_class() const override { return properties_.vga != nullptr ? 0x030000 : 0x038000; }
  uint64_t features() const override { return properties_.edid ? kFeatureEdid : 0; }
  unsigned queue_count() const override { return 2; }
  uint16_t queue_size(unsigned index) const override { return index == kControl ? 64 : 16; }
  size_t configuration_size() const override { return 16; }
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t offset, std::span<const std::byte> from) override;
  void connect(Transport& transport) override { transport_ = &transport; }
  void queue_notified(unsigned index) override;
  /// Drawing takes long: the main loop has others to serve.
  [[nodiscard]] EventLoop* doorbell_loop(EventLoop&) override { return nullptr; }
  void reset() override;

  // display::Source:
  void update(display::Frame& frame, bool all, std::vector<display::Rectangle>& changed) override;
  std::optional<display::TextFrame> text() override;
  std::shared_ptr<const display::Pointer> pointer() override;
  void wish_size(unsigned width, unsigned height) override;

 private:
  static constexpr unsigned kControl = 0, kCursor = 1;  // queues
  static constexpr uint64_t kFeatureEdid = uint64_t{1} << 1;
  static constexpr uint32_t kEventDisplay = 1;

  // These write the answer's data behind its header, if it has any.
  uint32_t control_locked(const DescriptorChain& chain);
  gpu::Response carry_out_locked(const gpu::Header& header, const DescriptorChain& chain);
  gpu::Response attach_locked(const DescriptorChain& chain);
  gpu::Response set_scanout_locked(const gpu::SetScanout& command);
  gpu::Response flush_locked(const gpu::ResourceFlush& command);
  uint32_t display_info_locked(const gpu::Header& header, const DescriptorChain& chain);
  uint32_t edid_locked(const gpu::Header& header, const DescriptorChain& chain);
  void cursor_locked(const DescriptorChain& chain);
  void remove_scanout_locked();
  [[nodiscard]] display::EdidProperties preferred_locked() const;

  const GpuProperties properties_;
  Transport* transport_ = nullptr;

  std::mutex mutex_;               // held while queues are served, so that reset() waits for that
  gpu::Resources resources_;       // guarded by mutex_, as is all below
  uint32_t scanout_resource_ = 0;  // 0: nothing shows
  gpu::Area scanout_;
  std::vector<display::Rectangle> damage_;  // of the scanout, not drawn yet
  std::shared_ptr<const display::Pointer> pointer_;
  uint32_t events_ = 0;
  unsigned wished_width_ = 0, wished_height_ = 0;
  bool shows_vga_ = false;  // at the last update()
};

}  // namespace limen::virtio
