// One IDE channel: the command block of two drives at its ports, data by PIO, and by the bus master
// that stands before it (ATA/ATAPI-7 Vol. 2; Programming Interface for Bus Master IDE
// Controller 1.0).
//
// A processor's access never waits for a disk: a command makes the drive busy, and the thread that
// ends it goes on with it.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "irq/interrupt_line.h"
#include "irq/line_output.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "storage/ata/device.h"
#include "storage/scatter_list.h"

namespace limen::storage {

class IdeChannel {
 public:
  static constexpr unsigned kUnits = 2;
  struct Ports {
    uint16_t command = 0;  ///< The first of eight.
    uint16_t control = 0;
  };

  /// All outlive the channel.
  IdeChannel(memory::GuestMemory& memory, memory::IoSpace& ports, const Ports& where,
             irq::InterruptLine line, const std::string& name);
  ~IdeChannel();
  IdeChannel(const IdeChannel&) = delete;
  IdeChannel& operator=(const IdeChannel&) = delete;

  /// Before the machine runs. Fails where a drive is.
  Result<> attach(unsigned unit, std::unique_ptr<ata::Device> device);
  [[nodiscard]] bool occupied(unsigned unit) const { return units_[unit].device != nullptr; }

  /// The bus master's registers: command at 0, status at 2, the table's address at 4.
  uint64_t bus_master_read(uint64_t offset, unsigned size);
  void bus_master_write(uint64_t offset, unsigned size, uint64_t value);

  /// As after power-on. While no processor runs.
  void reset();

 private:
  struct CommandBlock final : memory::IoHandler {
    explicit CommandBlock(IdeChannel& owner) : channel(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    IdeChannel& channel;
  };
  struct ControlBlock final : memory::IoHandler {
    explicit ControlBlock(IdeChannel& owner) : channel(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    IdeChannel& channel;
  };
  /// The latest and the one before, which 48-bit commands use.
  using Register = std::array<uint8_t, 2>;
  struct Unit {
    std::unique_ptr<ata::Device> device;
    Register features{}, count{}, low{}, mid{}, high{};
    uint8_t status = 0;
    uint8_t error = 0;
  };
  enum class Phase : uint8_t { kIdle, kPacket, kToHost, kToDevice, kAwaitsDma, kRunning };

  // With the lock held; what they leave in `deferred_` is done without it.
  [[nodiscard]] Unit& selected() { return units_[device_register_ >> 4 & 1]; }
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  void write_control(uint8_t value);
  void command_written(uint8_t command);
  void diagnose();
  void advance();
  void packet_complete();
  void request_part();
  void present(uint64_t bytes);
  void part_moved();
  uint64_t read_data(unsigned size);
  void write_data(unsigned size, uint64_t value);
  void run(uint64_t from, std::vector<iovec> buffers);
  void start_dma();
  bool gather(uint64_t wanted);
  void end(const ata::Ending& ending, bool interrupt = true);
  void set_signature(Unit& unit);
  void finish_reset(bool power_on);
  void raise();
  void update_line();

  void part_done(const ata::Ending& ending);
  void data_in_memory();
  /// Lets go of the lock, then does what was left for then.
  void leave(std::unique_lock<std::mutex>& lock);

  memory::GuestMemory& memory_;
  memory::IoSpace& ports_;
  const Ports where_;
  CommandBlock command_block_;
  ControlBlock control_block_;
  irq::LineOutput line_;

  std::mutex mutex_;  // guards all that follows
  std::condition_variable idle_;
  std::array<Unit, kUnits> units_;
  uint8_t device_register_ = 0;
  uint8_t control_ = 0;
  bool interrupt_ = false;  ///< INTRQ, whether the host wants it or not.
  std::function<void()> deferred_;

  // The command under way.
  Phase phase_ = Phase::kIdle;
  unsigned completing_ = 0;  ///< Threads within part_done().
  unsigned active_ = 0;      ///< The unit that executes it.
  ata::OperationPointer operation_;
  uint64_t from_ = 0;            ///< Bytes of it that are done.
  std::vector<uint8_t> buffer_;  ///< PIO: the part that moves now.
  size_t position_ = 0, request_end_ = 0;
  bool reset_wanted_ = false;  ///< By a host that does not wait for a command's end.
  std::array<uint8_t, 12> packet_{};

  // The bus master.
  uint8_t master_command_ = 0, master_status_ = 0;
  uint32_t table_ = 0;
  ScatterList scatter_;
  bool table_longer_ = false, table_shorter_ = false;
  bool dma_ = false;
};

}  // namespace limen::storage
