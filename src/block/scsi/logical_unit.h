// What every logical unit does, whatever it is: who it is, unit attentions, mode pages, reading and
// writing blocks (SPC-4, and the commands that SBC-3 and MMC-6 share).
//
// Everything in a command is the guest's and checked here. Transports stand outside: they bring a
// Command with the guest's buffers, and take the Outcome.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/block_device.h"
#include "block/scsi/command.h"

namespace limen::block::scsi {

/// What INQUIRY tells.
struct Identity {
  std::string vendor = "QEMU";    ///< At most 8 bytes.
  std::string product = {};       ///< At most 16 bytes.
  std::string revision = "2.5+";  ///< At most 4 bytes.
  std::string serial = {};        ///< At most 36 bytes.
  std::string device_id = {};     ///< For page 83h; empty: `serial`.
  uint64_t wwn = 0;               ///< NAA name; 0: none.
};
/// Whether the texts have room.
Result<> check_identity(const Identity& identity);

class LogicalUnit {
 public:
  virtual ~LogicalUnit();
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;

  /// Thread-safe; `command.done` may be called before this returns.
  void execute(Command command);
  /// Makes the next command end with this unit attention (SAM-5 5.14).
  void attention(const Sense& sense);
  /// Settings as after power-on, and the unit attention that says so. Commands under way go on.
  virtual void reset();
  /// Waits until no command is under way; meanwhile errors are not waited out (ErrorPolicy).
  void quiesce();

  [[nodiscard]] bool idle() const { return under_way_ == 0; }

 protected:
  struct Settings {
    Identity identity = {};
    uint32_t block_size = 512;
    bool removable = false;
    bool write_cache = true;
  };
  /// `medium`: null if there is none; it outlives the unit.
  LogicalUnit(Settings settings, BlockDevice* medium);

  /// Data for the initiator, or why there is none.
  using Reply = std::expected<std::vector<uint8_t>, Sense>;

  [[nodiscard]] virtual uint8_t device_type() const = 0;
  /// The commands of the unit's kind. False: there is none with that code.
  virtual bool execute_own(Command& command) = 0;
  /// A vital product data page beyond 00h, 80h and 83h, without its header.
  virtual std::optional<std::vector<uint8_t>> own_page(uint8_t page) = 0;
  [[nodiscard]] virtual std::vector<uint8_t> own_pages() const = 0;
  /// Mode page with its two-byte header; the bits that MODE SELECT may change in place of the
  /// values if `changeable`. Nothing: there is no such page.
  virtual std::optional<std::vector<uint8_t>> mode_page(uint8_t page, bool changeable) = 0;
  [[nodiscard]] virtual std::vector<uint8_t> mode_pages() const = 0;
  /// Takes a page from MODE SELECT, which differs from the present one in changeable bits only.
  virtual void select_mode_page(uint8_t page, std::span<const uint8_t> bytes) = 0;
  /// Why blocks cannot be read now.
  [[nodiscard]] virtual Sense readiness() const;

  [[nodiscard]] uint64_t blocks() const;
  [[nodiscard]] BlockDevice* medium() const { return medium_; }
  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] bool write_cache() const { return write_cache_; }
  void set_write_cache(bool on) { write_cache_ = on; }
  /// Once the commands under way are done; others wait meanwhile.
  void set_medium(BlockDevice* medium);

  static void finish(Command& command, const Sense& sense);
  /// Gives at most `allocation` bytes.
  static void finish(Command& command, const Reply& reply, uint64_t allocation);
  /// READ, WRITE and VERIFY with the address where each length of CDB has it.
  struct Extent {
    uint64_t block = 0;
    uint64_t count = 0;
    uint8_t flags = 0;  ///< Byte 1 of the CDB.
  };
  [[nodiscard]] static Extent extent(const Command& command);
  [[nodiscard]] bool fits(uint64_t block, uint64_t count) const;
  void read(Command& command, uint64_t block, uint64_t count);
  void write(Command& command, uint64_t block, uint64_t count, bool force_unit_access);
  /// Ends the command with what the errno means; on success `transferred` bytes.
  static void finish_io(Command& command, bool write, int error, uint64_t transferred);
  void flush(Command& command, bool write, uint64_t transferred);

 private:
  bool take_attention(Command& command);
  bool execute_common(Command& command);
  Reply inquiry(const Command& command);
  std::vector<uint8_t> standard_inquiry() const;
  std::optional<std::vector<uint8_t>> product_data(uint8_t page);
  Reply mode_sense(const Command& command, bool long_form);
  Sense mode_select(Command& command, bool long_form);
  Sense select_pages(std::span<const uint8_t> pages);
  void ended();

  const Settings settings_;
  BlockDevice* medium_;
  std::atomic<bool> write_cache_;

  std::shared_mutex medium_mutex_;  // held while a command is begun, and to change the medium
  std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Sense> attentions_;         // guarded by mutex_
  std::atomic<uint64_t> under_way_ = 0;  // decremented under mutex_
};

/// The units behind one address.
class Target {
 public:
  /// False: there is one with that number.
  bool add(uint16_t number, LogicalUnit& unit);
  void remove(uint16_t number);
  [[nodiscard]] LogicalUnit* find(uint16_t number) const;
  [[nodiscard]] bool empty() const;
  /// For a unit that is not there: INQUIRY says so, REPORT LUNS lists the others, the rest fails.
  void execute(uint16_t number, Command command);

 private:
  [[nodiscard]] LogicalUnit* find_locked(uint16_t number) const;

  mutable std::shared_mutex mutex_;  // held while a command is begun, so that its unit stays
  std::vector<std::pair<uint16_t, LogicalUnit*>> units_;  // guarded by mutex_; by number
};

}  // namespace limen::block::scsi
