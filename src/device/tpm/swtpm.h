// -tpmdev emulator: a TPM 2.0 in the process swtpm, by its control channel and a data channel
// (swtpm's tpm_ioctl.h, swtpm(8) and swtpm_ioctls(3)).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "device/character/socket_address.h"
#include "device/tpm/backend.h"

namespace limen::device {

class Swtpm final : public TpmBackend {
 public:
  /// Connects, hands over a data channel and looks whether it is a TPM 2.0; fails where nobody
  /// answers as swtpm does.
  static Result<std::unique_ptr<Swtpm>> connect(const SocketAddress& address);
  /// Tells the process that the machine is gone, on which it ends.
  ~Swtpm() override;

  [[nodiscard]] uint32_t buffer_bytes() const override { return buffer_bytes_; }
  /// What the interface has room for, at most 4096; from the next start() on.
  void set_buffer_bytes(uint32_t bytes) { wanted_bytes_ = bytes; }
  void start() override;
  void execute(uint8_t locality, std::vector<uint8_t> command,
               std::function<void(Response)> done) override;
  void cancel() override;
  [[nodiscard]] bool established() override;
  void reset_established(uint8_t locality) override;

 private:
  /// Of the control channel (tpm_ioctl.h).
  enum class Control : uint32_t {
    kGetCapability = 1,
    kInit = 2,
    kShutdown = 3,
    kGetEstablished = 4,
    kSetLocality = 5,
    kCancel = 9,
    kResetEstablished = 11,
    kStop = 14,
    kSetDataFd = 16,
    kSetBufferSize = 17,
  };
  struct Job {
    uint8_t locality = 0;
    std::vector<uint8_t> command = {};
    std::function<void(Response)> done = {};
  };

  Swtpm(UniqueFd control, std::string where)
      : where_(std::move(where)), control_(std::move(control)) {}
  Result<> open_data_channel();
  Result<> check_version();
  Result<> power_on();
  /// Sends a command with its big-endian words and `fd`, if it is one; gives the whole reply.
  Result<std::vector<uint8_t>> ask(Control command, std::span<const uint8_t> arguments,
                                   size_t reply_bytes, int fd = -1);
  /// The same for a reply that begins with a result, which must be 0.
  Result<std::vector<uint8_t>> order(Control command, std::span<const uint8_t> arguments = {},
                                     size_t reply_bytes = 4, int fd = -1);
  Result<Response> exchange(uint8_t locality, std::span<const uint8_t> command);
  void run();
  void lost(const Error& why);

  const std::string where_;  ///< For messages.
  std::mutex control_mutex_;
  UniqueFd control_;  // guarded by control_mutex_
  UniqueFd data_;     // the thread's
  uint32_t wanted_bytes_ = 4096, buffer_bytes_ = 4096;
  uint32_t capabilities_ = 0;
  uint8_t locality_ = 0xFF;  ///< As swtpm knows it; the thread's.
  std::atomic<bool> lost_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  // guarded by mutex_:
  std::optional<Job>
      job_;  ///< For the thread to take; another may come while it tells of the last.
  bool busy_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace limen::device
