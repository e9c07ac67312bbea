// -device i6300esb: the watchdog timer of Intel's 6300ESB I/O controller hub, 8086:25ab (datasheet
// 300641, chapter 16).
//
// Two stages count down one after the other; the end of the second is the machine's end, as the
// board sees fit. It counts only while the machine runs.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "base/event_loop.h"
#include "pci/pci_function.h"

namespace limen::pci {

class I6300Esb final : public PciFunction {
 public:
  static constexpr unsigned kRegisterBar = 0;

  struct Callbacks {
    std::function<void()> expired;       ///< On the loop's thread, without a lock.
    std::function<bool()> machine_runs;  ///< The same.
  };
  /// `loop` outlives it.
  I6300Esb(std::string name, EventLoop& loop, Callbacks callbacks);
  ~I6300Esb() override;

  /// What tells that the watchdog made the machine start anew outlives a reset (§16.5.4).
  void reset() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  struct Registers final : memory::IoHandler {
    explicit Registers(I6300Esb& owner) : watchdog(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    I6300Esb& watchdog;
  };
  void write(uint64_t offset, uint32_t value);
  void start(unsigned stage);
  void update_line();
  void elapsed();

  EventLoop& loop_;
  const Callbacks callbacks_;
  Registers registers_;
  std::mutex mutex_;
  // guarded by mutex_:
  uint32_t preload_[2] = {};
  unsigned unlock_step_ = 0;  ///< How much of the sequence was written; 2: one write may follow.
  unsigned stage_ = 0;        ///< That counts down, 1 or 2; 0: none.
  bool interrupted_ = false;  ///< The first stage ended.
  bool timed_out_ = false;    ///< The second did, before the last reset.
  bool enabled_ = false, locked_ = false, free_running_ = false;
  uint16_t configuration_ = 0;
  Timer timer_;
};

}  // namespace limen::pci
