// An xHCI host controller, 1b36:000d, with its root hub (xHCI 1.2; USB devices have no hubs
// between).
//
// A doorbell's write works off the rings on the processor's thread; a device that has more to give
// does so on its own. One lock guards registers, rings and the devices' side of a transfer; at any
// time one thread works, and takes along what others ask for meanwhile.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "pci/pci_function.h"
#include "usb/device.h"
#include "usb/xhci/interrupter.h"
#include "usb/xhci/registers.h"
#include "usb/xhci/ring.h"

namespace limen::usb {

/// Properties of -device qemu-xhci, with QEMU's meaning and defaults.
struct XhciProperties {
  std::string name = "qemu-xhci";  ///< For messages.
  unsigned usb2_ports = 4;         ///< p2: 1 to 15.
  unsigned usb3_ports = 4;         ///< p3: 1 to 15.
  unsigned slots = 64;             ///< 1 to 64.
  unsigned interrupters = 16;      ///< intrs: 1 to 16.
};

class Xhci final : public pci::PciFunction, public Host {
 public:
  static constexpr unsigned kRegisterBar = 0, kMsixBar = 4;

  /// `memory` and `loop` outlive the controller. Fails for a property out of range.
  static Result<std::unique_ptr<Xhci>> create(const XhciProperties& properties,
                                              memory::GuestMemory& memory, EventLoop& loop);
  ~Xhci() override;

  void reset() override;

  /// Connectors are numbered from 1; each has a USB 2 port, a USB 3 port or both.
  [[nodiscard]] unsigned connectors() const;
  /// Plugs a device in: at `connector`, or with 0 at the first that is free; returns where. Fails
  /// where none is free, and where the port is too slow for it. While no processor runs.
  Result<unsigned> plug(std::unique_ptr<UsbDevice> device, unsigned connector);
  /// Null: nothing was there.
  std::unique_ptr<UsbDevice> unplug(unsigned connector);
  [[nodiscard]] UsbDevice* device(unsigned connector) const;
  /// The address that the driver gave to what is there; 0: none.
  [[nodiscard]] unsigned address(unsigned connector) const;

  void endpoint_ready(unsigned connector, uint8_t address) override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  struct Registers final : memory::IoHandler {
    explicit Registers(Xhci& owner) : controller(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Xhci& controller;
  };
  /// Of the root hub; two of them, of each protocol one, are one connector.
  struct Port {
    unsigned connector = 0;
    bool super = false;
    uint32_t status = 0;  ///< PORTSC.
    uint32_t power_management = 0;
    UsbDevice* device = nullptr;
  };
  struct Endpoint {
    bool rung = false;     ///< There may be something to do.
    bool waiting = false;  ///< The first transfer is with the device, which is not ready.
    xhci::EndpointState state = xhci::EndpointState::kDisabled;
    xhci::Ring ring = {};
    // Of the control endpoint: between its stages.
    std::optional<Setup> setup = {};
    std::vector<uint8_t> data = {};
    uint64_t have = 0;  ///< Of a transfer to the host, what the device gave; otherwise what came.
    uint64_t moved = 0;
    Status status = Status::kDone;
  };
  struct Slot {
    bool enabled = false;
    bool gone = false;  ///< Its device was unplugged.
    xhci::SlotState state = xhci::SlotState::kDisabled;
    uint64_t context = 0;  ///< Output device context.
    unsigned port = 0;     ///< Index into ports_; meaningful once addressed.
    uint8_t address = 0;
    std::array<Endpoint, xhci::kContexts> endpoints = {};
  };
  using Code = xhci::Code;

  Xhci(const XhciProperties& properties, memory::GuestMemory& memory, EventLoop& loop);

  uint32_t read(uint32_t offset);
  void write(uint32_t offset, uint32_t value);

  // With the lock held, all from here to deliver(). In xhci.cc:
  [[nodiscard]] uint32_t read_capability(uint32_t offset) const;
  [[nodiscard]] uint32_t read_operational(uint32_t offset) const;
  void write_operational(uint32_t offset, uint32_t value);
  void write_command(uint32_t value);
  void write_command_ring(uint32_t value);
  void clear();
  [[nodiscard]] bool running() const { return (status_ & xhci::sts::kHalted) == 0; }
  void fail_controller();
  void post(unsigned interrupter, const xhci::Trb& event, bool interrupt = true);
  void note_due(unsigned interrupter);
  void note_all_due();
  void update_line();
  [[nodiscard]] bool blocked() const;
  /// Takes `blocks` of what may be worked off in one go; false: it is a ring without an end.
  bool spend(size_t blocks);

  // In ports.cc:
  void write_port(Port& port, uint32_t value);
  void write_link(Port& port, xhci::Link link);
  void set_link(Port& port, xhci::Link link);
  void change_port(Port& port, uint32_t changes);
  void tell_port(const Port& port);
  void show_device(Port& port);
  void reset_port(Port& port, bool warm);
  [[nodiscard]] Port* free_port(unsigned connector, const UsbDevice& device);
  [[nodiscard]] Slot* slot_of(const Port& port);
  void wake(Port& port);

  // In commands.cc:
  void run_commands();
  Code execute(const xhci::Trb& command, uint8_t& slot);
  Code address_device(Slot& slot, uint8_t id, const xhci::Trb& command);
  Code configure_endpoints(Slot& slot, const xhci::Trb& command);
  Code evaluate_context(Slot& slot, const xhci::Trb& command);
  Code reset_endpoint(Slot& slot, unsigned index);
  Code stop_endpoint(Slot& slot, uint8_t id, unsigned index);
  Code set_dequeue(Slot& slot, unsigned index, const xhci::Trb& command);
  Code reset_device(Slot& slot);
  void disable_slot(Slot& slot);
  bool enable_endpoint(Slot& slot, unsigned index, const xhci::Context& context);
  void disable_endpoint(Slot& slot, unsigned index);
  bool read_context(uint64_t at, xhci::Context& words) const;
  void write_context(uint64_t at, const xhci::Context& words);
  void store_slot(Slot& slot, std::optional<xhci::Context> words = {});
  void store_endpoint(Slot& slot, unsigned index);

  // In transfers.cc:
  void ring_doorbell(unsigned slot, unsigned target);
  void run_endpoint(uint8_t id, unsigned index);
  /// False: the transfer waits for the device, or the endpoint does not go on.
  bool run_descriptor(Slot& slot, uint8_t id, unsigned index);
  Outcome perform(Slot& slot, unsigned index, const xhci::Trb& first,
                  std::span<const iovec> buffers, uint64_t bytes);
  static Outcome perform_stage(Slot& slot, UsbDevice& device, const xhci::Trb& first,
                               std::span<const iovec> buffers, uint64_t bytes);
  void report(const Slot& slot, uint8_t id, unsigned index, std::span<const xhci::PlacedTrb> blocks,
              const Outcome& outcome);
  void report_one(uint8_t id, unsigned index, const xhci::PlacedTrb& block, Code code,
                  uint64_t length, bool event_data = false);
  void halt(Slot& slot, unsigned index, xhci::EndpointState state);

  // Without it:
  void work();
  void deliver();

  const XhciProperties properties_;
  memory::GuestMemory& memory_;
  EventLoop& loop_;
  Registers registers_;

  /// What is to be done, for the thread that works.
  struct Wish {
    unsigned connector;
    uint8_t endpoint;
    friend auto operator<=>(const Wish&, const Wish&) = default;
  };
  std::mutex wish_mutex_;
  std::set<Wish> wishes_;  // guarded by wish_mutex_
  bool work_due_ = false;  // guarded by wish_mutex_
  bool working_ = false;   // guarded by wish_mutex_

  mutable std::mutex mutex_;                         // guards what follows
  std::vector<Port> ports_;                          ///< USB 2 first.
  std::vector<std::unique_ptr<UsbDevice>> devices_;  ///< By connector, less one.
  std::vector<Slot> slots_;                          ///< By id, less one.
  std::vector<xhci::Interrupter> interrupters_;
  uint32_t command_ = 0, status_ = 0, notifications_ = 0, config_ = 0;
  uint64_t contexts_ = 0;  ///< DCBAAP.
  uint64_t command_pointer_ = 0;
  bool command_running_ = false;
  bool commands_rung_ = false;
  xhci::Ring command_ring_;
  size_t budget_ = 0;
  std::vector<bool> vectors_due_;
};

}  // namespace limen::usb
