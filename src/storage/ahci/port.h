// One port of an AHCI controller: its registers, its command list, and the drive behind it.
//
// Everything here is called with the controller's lock held; what goes to the drive comes back as a
// Job, which is done without it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "memory/guest_memory.h"
#include "storage/ahci/registers.h"
#include "storage/ata/device.h"
#include "storage/scatter_list.h"

namespace limen::storage::ahci {

class Port {
 public:
  static constexpr unsigned kSlots = 32;

  explicit Port(memory::GuestMemory& memory) : memory_(memory) {}

  void attach(std::unique_ptr<ata::Device> device);
  [[nodiscard]] ata::Device* device() const { return device_.get(); }

  [[nodiscard]] uint32_t read(uint32_t offset) const;
  void write(uint32_t offset, uint32_t value);
  /// What an interrupt is wanted for.
  [[nodiscard]] uint32_t pending() const { return status() & interrupts_; }

  /// A part of a command that the drive is to do.
  struct Job {
    unsigned slot = 0;
    ata::OperationPointer operation;
    std::vector<iovec> buffers;
  };
  /// The next one, if the port can take one; goes through what needs no drive on the way.
  std::optional<Job> next();
  /// The drive has done it.
  void done(unsigned slot, const ata::Ending& ending);

  /// Nothing is with the drive.
  [[nodiscard]] bool idle() const { return under_way_ == 0; }
  /// As after power-on, or as GHC.HR leaves it. Only while idle.
  void reset(bool power_on);

  // For the controller: one thread at a time feeds the drive.
  bool feeding = false;
  bool feed_again = false;

 private:
  struct Command {
    ata::OperationPointer operation;
    ScatterList scatter;
    bool queued = false;
    uint8_t tag = 0;
    bool wants_descriptor_interrupt = false;
  };

  [[nodiscard]] uint32_t status() const {
    return status_ | ((error_ & kExchanged) != 0 ? event::kConnectChange : 0);
  }
  void write_command(uint32_t value);
  void write_control(uint32_t value);
  /// What waited for the drive to become idle.
  void settle();
  void reset_link();
  void give_signature();
  void fatal(uint32_t what);

  std::optional<Job> start(unsigned slot, const CommandHeader& header,
                           std::span<const uint8_t, 64> frame);
  bool gather(Command& command, const CommandHeader& header, uint64_t wanted);
  void control(unsigned slot, uint8_t value);
  void complete(unsigned slot, const ata::Ending& ending);
  void complete_queued(const Command& command, const ata::Ending& ending);
  void receive(uint64_t at, std::span<const uint8_t> frame);
  void send_registers(const ata::Taskfile& registers, const ata::Ending& ending, bool interrupt);
  void send_pio_setup(const ata::Operation& operation, const ata::Ending& ending);
  [[nodiscard]] bool running() const {
    return (command_ & cmd::kStart) != 0 && !stopping_ && !halted_;
  }

  memory::GuestMemory& memory_;
  std::unique_ptr<ata::Device> device_;

  uint64_t list_ = 0, received_ = 0;
  uint32_t status_ = 0, interrupts_ = 0;
  uint32_t command_ = cmd::kSpinUp | cmd::kPowerOn;
  uint32_t task_file_ = kNoTaskFile;
  uint32_t signature_ = kNoSignature;
  uint32_t link_ = 0, control_ = 0, error_ = 0;
  uint32_t active_ = 0, issued_ = 0;

  std::array<std::optional<Command>, kSlots> commands_;
  unsigned under_way_ = 0;
  unsigned next_slot_ = 0;
  bool exclusive_ = false;  ///< A command that is not queued is under way.
  bool halted_ = false;     ///< After an error, until the driver stops the port.
  bool stopping_ = false;
  bool soft_reset_ = false;
  bool link_reset_wanted_ = false;
  bool signature_due_ = false;
};

}  // namespace limen::storage::ahci
