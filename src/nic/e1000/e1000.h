// e1000: Intel's 82540EM, the card that a machine has when nobody named one (SDM 317453).
//
// A processor's access to a register returns at once; descriptors are worked off on the network's
// thread. Registers are guarded by a lock that is never held while a frame goes to the back end.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "memory/guest_memory.h"
#include "net/network.h"
#include "net/port.h"
#include "nic/e1000/eeprom.h"
#include "nic/e1000/phy.h"
#include "nic/e1000/registers.h"
#include "pci/pci_function.h"

namespace limen::nic {

struct E1000Properties {
  std::string name = "e1000";  ///< For messages.
  std::string id{};            ///< For the monitor; empty: one is made up.
  std::array<uint8_t, net::kMacBytes> mac{};
  std::string netdev{};  ///< Back end; empty: no cable.
};

class E1000 final : public pci::PciFunction {
 public:
  static constexpr unsigned kMemoryBar = 0, kPortBar = 1;

  /// `memory` and `network` outlive the card. Fails for a back end that is not there or taken.
  static Result<std::unique_ptr<E1000>> create(const E1000Properties& properties,
                                               memory::GuestMemory& memory, net::Network& network);
  ~E1000() override;

  void reset() override;

 private:
  class Port;
  /// The register window, in memory or through a pair of ports (SDM 13.2).
  struct MemoryWindow final : memory::IoHandler {
    explicit MemoryWindow(E1000& owner) : card(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    E1000& card;
  };
  struct PortWindow final : memory::IoHandler {
    explicit PortWindow(E1000& owner) : card(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    E1000& card;
    std::atomic<uint32_t> address{0};
  };
  /// What a context descriptor set (SDM 3.3.6).
  struct Context {
    size_t ip_start = 0, ip_field = 0, ip_end = 0;
    size_t transport_start = 0, transport_field = 0, transport_end = 0;
    size_t header_bytes = 0, segment_bytes = 0;
    bool ip4 = false, tcp = false;
  };
  struct Ring {
    uint64_t base = 0;
    uint32_t entries = 0, head = 0, tail = 0;
  };

  E1000(const E1000Properties& properties, memory::GuestMemory& memory, net::Network& network);

  // On processors' threads.
  uint32_t read_register(uint32_t offset);
  void write_register(uint32_t offset, uint32_t value);
  void write_register_locked(uint32_t offset, uint32_t value);
  void reset_card();
  void reset_locked();

  // On any thread; the line changes when deliver_intx() is called, without the lock.
  [[nodiscard]] uint32_t& at(uint32_t offset) { return registers_[offset / 4]; }
  void raise_locked(uint32_t causes);
  void update_line_locked();
  void raise(uint32_t causes);
  void update_link_locked();
  void count_locked(uint32_t packets, uint32_t octets, size_t bytes);
  [[nodiscard]] Ring ring_locked(uint32_t base);

  // On the network's thread.
  void transmit();
  bool take_descriptor(e1000::TransmitDescriptor& descriptor);
  void add_data(const e1000::TransmitDescriptor& descriptor);
  void set_context(const e1000::TransmitDescriptor& descriptor);
  net::Delivery send_packet();
  void finish_descriptor(uint8_t command);
  net::Delivery receive(const net::Frame& frame);
  [[nodiscard]] bool passes_locked(std::span<const std::byte> frame, bool& exact);
  [[nodiscard]] uint32_t buffer_bytes_locked();
  void link_changed();

  memory::GuestMemory& memory_;
  net::Network& network_;
  const std::array<uint8_t, net::kMacBytes> mac_;
  MemoryWindow memory_window_;
  PortWindow port_window_;
  std::unique_ptr<Port> port_;

  std::mutex mutex_;
  std::vector<uint32_t> registers_;  // guarded by mutex_, as is what follows
  e1000::Eeprom eeprom_;
  e1000::Phy phy_;
  bool line_ = false;
  Clock::time_point next_interrupt_;  ///< Not before (ITR).
  bool transmit_posted_ = false;
  bool starved_ = false;  ///< The back end waits for receive descriptors.
  bool link_up_ = true;
  Timer throttle_;

  // The network's thread alone.
  Context context_, segment_context_;
  std::vector<std::byte> packet_;
  std::vector<std::byte> received_;
  std::optional<e1000::TransmitDescriptor> first_;  ///< Of the packet that is put together.
  uint16_t vlan_tag_ = 0;
  bool too_long_ = false;
  std::optional<uint8_t> waiting_;  ///< Command of the descriptor whose packet was not sent.
};

}  // namespace limen::nic
