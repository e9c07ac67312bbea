// An NVMe controller with one namespace, 1b36:0010 (NVM Express Base 1.4, NVM Command Set).
//
// A doorbell's write fetches what there is and hands it to the disk; the thread that ends a request
// posts its completion. One lock guards queues and registers; the disk is called without it.
#pragma once

#include <array>
#include <bitset>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/block_device.h"
#include "pci/pci_function.h"
#include "storage/nvme/registers.h"
#include "storage/scatter_list.h"

namespace limen::storage {

/// Properties of -device nvme, with QEMU's meaning and defaults.
struct NvmeProperties {
  std::string name = "nvme";  ///< For messages.
  std::string serial = {};    ///< 1 to 20 bytes.
  unsigned queue_pairs = 64;  ///< For I/O; 1 to 65535.
  unsigned vectors = 65;      ///< MSI-X, 1 to 2048.
  uint32_t logical_block_size = 512;
  uint32_t physical_block_size = 512;
  uint8_t largest_transfer = 7;  ///< Power of two, in pages; 0: no limit.
  bool write_cache = true;
  bool discard = true;
};

class Nvme final : public pci::PciFunction {
 public:
  static constexpr unsigned kRegisterBar = 0, kMsixBar = 4;
  static constexpr uint32_t kMostEntries = 2048;

  /// `memory` and `disk` outlive the controller. Fails for a property out of range.
  static Result<std::unique_ptr<Nvme>> create(const NvmeProperties& properties,
                                              memory::GuestMemory& memory,
                                              block::BlockDevice& disk);
  ~Nvme() override;

  void reset() override;
  /// The disk has another size: tells the driver.
  void resized();

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  using Command = nvme::Command;
  struct Registers final : memory::IoHandler {
    explicit Registers(Nvme& owner) : controller(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Nvme& controller;
  };
  struct SubmissionQueue {
    uint64_t base = 0;
    uint32_t entries = 0;  ///< 0: there is none.
    uint32_t head = 0, tail = 0;
    uint16_t completion = 0;
    uint32_t under_way = 0;
    std::optional<uint16_t> deletion = {};  ///< Id of the command that waits to delete it.
  };
  struct CompletionQueue {
    uint64_t base = 0;
    uint32_t entries = 0;
    uint32_t head = 0, tail = 0;
    uint16_t vector = 0;
    bool interrupts = false;
    bool phase = true;
    std::deque<nvme::Completion> waiting = {};  ///< For room.
  };
  /// A command that is with the disk.
  struct Pending {
    uint16_t queue = 0;
    uint16_t id = 0;
    ScatterList scatter = {};
    bool to_host = false;
    bool write = false;
  };
  /// What is to be asked of the disk, without the lock.
  struct Job {
    std::shared_ptr<Pending> pending = {};
    std::vector<block::Request> requests = {};
    bool durable = false;
  };

  Nvme(const NvmeProperties& properties, memory::GuestMemory& memory, block::BlockDevice& disk);

  uint32_t read(uint32_t offset);
  void write(uint32_t offset, unsigned size, uint64_t value);

  // With the lock held:
  void write_register(uint32_t offset, uint32_t value);
  void write_control(uint32_t value);
  void ring(uint32_t offset, uint32_t value);
  [[nodiscard]] bool start();
  void clear();
  [[nodiscard]] bool quiet() const;
  void settle();
  std::optional<Job> next();
  std::optional<Job> fetch(uint16_t queue);
  void complete(uint16_t queue, uint16_t id, uint16_t status, uint32_t result = 0);
  void post(uint16_t queue, nvme::Completion completion);
  void flush_waiting(CompletionQueue& queue);
  void update_line();
  void delete_when_idle(uint16_t queue);
  [[nodiscard]] uint64_t page_bytes() const { return uint64_t{4096} << (control_ >> 7 & 0xF); }
  /// The data of a command, or why they cannot be reached.
  nvme::Status gather(const Command& command, uint64_t bytes, ScatterList& scatter) const;
  uint16_t give(const Command& command, std::span<const uint8_t> data);

  // Admin commands: a status, or nothing when the completion comes later.
  std::optional<uint16_t> administer(const Command& command, uint32_t& result);
  uint16_t create_submission_queue(const Command& command);
  uint16_t create_completion_queue(const Command& command);
  std::optional<uint16_t> delete_submission_queue(const Command& command);
  uint16_t delete_completion_queue(const Command& command);
  uint16_t identify(const Command& command);
  [[nodiscard]] std::vector<uint8_t> identify_controller() const;
  [[nodiscard]] std::vector<uint8_t> identify_namespace() const;
  [[nodiscard]] uint64_t eui64() const;
  uint16_t get_log_page(const Command& command);
  [[nodiscard]] std::vector<uint8_t> health() const;
  uint16_t set_features(const Command& command, uint32_t& result);
  uint16_t get_features(const Command& command, uint32_t& result) const;
  std::optional<uint16_t> request_event(const Command& command);
  void raise_event(uint8_t type, uint8_t information, uint8_t log);

  // I/O commands: what to ask of the disk, or a status.
  std::expected<Job, uint16_t> begin(uint16_t queue, const Command& command);
  std::expected<Job, uint16_t> begin_transfer(uint16_t queue, const Command& command);
  std::expected<Job, uint16_t> begin_deallocation(uint16_t queue, const Command& command);
  [[nodiscard]] bool fits(uint64_t block, uint64_t count) const;
  [[nodiscard]] uint32_t block_bytes() const;
  [[nodiscard]] uint64_t blocks() const { return disk_.size() / block_bytes(); }

  // Without the lock:
  void feed();
  void submit(Job job);
  void done(const Pending& pending, int error);
  void shut_down();
  void deliver();

  const NvmeProperties properties_;
  memory::GuestMemory& memory_;
  block::BlockDevice& disk_;
  Registers registers_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  uint32_t control_ = 0, status_ = 0, mask_ = 0;
  uint32_t admin_sizes_ = 0;
  uint64_t admin_submission_ = 0, admin_completion_ = 0;
  std::vector<SubmissionQueue> submission_;
  std::vector<CompletionQueue> completion_;
  uint32_t next_queue_ = 0;
  uint32_t under_way_ = 0;
  unsigned inside_ = 0;  ///< Threads that work on the queues, and come back for the lock.
  bool feeding_ = false, feed_again_ = false;
  bool stopping_ = false;  ///< CC.EN was cleared while the disk had commands.
  bool flush_wanted_ = false;
  std::vector<bool> vectors_due_;
  bool any_due_ = false;

  std::array<uint32_t, 16> features_{};
  std::deque<uint16_t> event_requests_;
  std::deque<uint32_t> events_;   ///< Not told yet.
  std::bitset<8> masked_events_;  ///< By type: until the driver reads the log.
  bool namespace_changed_ = false;
  uint64_t blocks_read_ = 0, blocks_written_ = 0, reads_ = 0, writes_ = 0;
};

}  // namespace limen::storage
