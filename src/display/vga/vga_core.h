// A VGA with Bochs' VBE: registers, window, picture; what a PCI function is put around.
#pragma once

#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "device/device.h"
#include "display/bochs_vbe.h"
#include "display/linear_picture.h"
#include "display/register_bar.h"
#include "display/screen.h"
#include "display/vga/planes.h"
#include "display/vga/registers.h"
#include "display/vga/scan_picture.h"
#include "display/vga/text_picture.h"
#include "memory/io_space.h"

namespace limen::display::vga {

class VgaCore final : public device::Device, public Source, public RegisterTarget {
 public:
  using Clock = std::function<Registers::Time()>;

  /// Claims ports and the window at A0000h, which all outlive it, as `memory` does: the video
  /// memory, of which a multiple of 64 KiB, at least 256 KiB.
  VgaCore(memory::IoSpace& ports, memory::IoSpace& mmio, std::span<std::byte> memory,
          Clock clock = std::chrono::steady_clock::now);
  ~VgaCore() override;
  VgaCore(const VgaCore&) = delete;
  VgaCore& operator=(const VgaCore&) = delete;

  void reset() override;

  // Source:
  void update(Frame& frame, bool all, std::vector<Rectangle>& changed) override;
  std::optional<TextFrame> text() override;

  // RegisterTarget:
  uint8_t read_vga(uint16_t port) override;
  void write_vga(uint16_t port, uint8_t value) override;
  uint16_t read_vbe(uint16_t index) override;
  void write_vbe(uint16_t index, uint16_t value) override;
  bool big_endian() override;
  void set_big_endian(bool big_endian) override;

 private:
  /// What a processor reaches by ports and by the window.
  struct Ports final : memory::IoHandler {
    explicit Ports(VgaCore& owner) : core(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    VgaCore& core;
  };
  struct VbePorts final : memory::IoHandler {
    explicit VbePorts(VgaCore& owner) : core(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    VgaCore& core;
  };
  struct Window final : memory::IoHandler {
    explicit Window(VgaCore& owner) : core(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    /// Only a picture shows them.
    [[nodiscard]] std::span<const memory::LateWrites> late_writes() const override;
    VgaCore& core;
  };
  enum class View : uint8_t { kNone, kBlank, kText, kScan, kLinear };
  /// What the guest has set, taken over at once.
  struct State {
    Registers registers;
    BochsVbe vbe;
    uint32_t latch = 0;
    uint16_t vbe_index = 0;
    bool big_endian = false;
  };

  void vbe_switched_locked();
  [[nodiscard]] static View view_of(const State& state);
  void draw_scan(const State& state, Frame& frame, bool all, std::vector<Rectangle>& changed);

  memory::IoSpace& port_space_;
  memory::IoSpace& mmio_space_;
  const std::span<std::byte> memory_;
  const Clock clock_;
  Ports ports_{*this};
  VbePorts vbe_ports_{*this};
  Window window_{*this};

  std::mutex mutex_;
  State state_;  // guarded by mutex_

  // Of the thread that draws, one at a time.
  View view_ = View::kNone;
  TextPicture text_picture_;
  ScanPicture scan_picture_;
  LinearPicture linear_picture_;
};

}  // namespace limen::display::vga
