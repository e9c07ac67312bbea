// A CD/DVD drive (MMC-6): blocks of 2048 bytes from an image that can be changed.
#pragma once

#include <memory>

#include "block/scsi/logical_unit.h"

namespace limen::block::scsi {

class Cd final : public LogicalUnit {
 public:
  static constexpr uint32_t kBlockSize = 2048;

  /// `image`: null for an empty drive; it outlives its stay in the drive. `tray_moved`: the tray
  /// opened or closed, by the guest's or the person's doing; called on any thread.
  static Result<std::unique_ptr<Cd>> create(const Identity& identity, BlockDevice* image,
                                            std::function<void(bool open)> tray_moved = {});

  [[nodiscard]] bool tray_open() const { return tray_open_; }
  /// The guest forbade that the medium comes out.
  [[nodiscard]] bool locked() const { return locked_; }
  /// Opens the tray as the drive's button does: against the guest's lock only with `force`;
  /// otherwise the guest is asked (GET EVENT STATUS NOTIFICATION), and this fails.
  Result<> open_tray(bool force);
  void close_tray();
  /// Puts another image in, or with null takes it out, once commands under way are done. The tray
  /// must be open or the drive empty.
  Result<> change_medium(BlockDevice* image);

  void reset() override;

 private:
  Cd(const Identity& identity, BlockDevice* image, std::function<void(bool open)> tray_moved);

  [[nodiscard]] uint8_t device_type() const override { return 0x05; }
  bool execute_own(Command& command) override;
  std::optional<std::vector<uint8_t>> own_page(uint8_t) override { return std::nullopt; }
  [[nodiscard]] std::vector<uint8_t> own_pages() const override { return {}; }
  std::optional<std::vector<uint8_t>> mode_page(uint8_t page, bool changeable) override;
  [[nodiscard]] std::vector<uint8_t> mode_pages() const override { return {0x01, 0x0E, 0x2A}; }
  void select_mode_page(uint8_t, std::span<const uint8_t>) override {}
  [[nodiscard]] Sense readiness() const override;

  void move_tray(bool open);
  Sense start_stop(const Command& command);
  Reply read_toc(const Command& command) const;
  Reply configuration(const Command& command) const;
  Reply event_status(const Command& command);
  Reply disc_information(const Command& command) const;
  Reply track_information(const Command& command) const;
  Reply mechanism_status() const;
  void read_cd(Command& command);

  const std::function<void(bool open)> tray_moved_;
  std::atomic<bool> tray_open_ = false;
  std::atomic<bool> locked_ = false;
  std::atomic<uint8_t> media_event_ = 0;  ///< The last that the guest has not heard of.
};

}  // namespace limen::block::scsi
