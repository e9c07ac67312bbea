// What people do with keyboard and mouse, on its way from a viewer to the guest's devices.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace limen::display {

/// A key by its make code in scan code set 1, E0h-prefixed ones with kExtended set; Pause is
/// kPause, Print Screen 37h | kExtended.
using KeyCode = uint16_t;
inline constexpr KeyCode kExtended = 0x80;
inline constexpr KeyCode kPause = 0xC6;

enum class Button : uint8_t { kLeft, kMiddle, kRight, kSide, kExtra };

/// A device that takes keys. Called on any thread.
class KeySink {
 public:
  virtual ~KeySink() = default;
  virtual void key(KeyCode code, bool down) = 0;
  /// The locks as the guest shows them: bit 0 Scroll, 1 Num, 2 Caps.
  [[nodiscard]] virtual uint8_t leds() const { return 0; }
};

/// A device that takes movements. Called on any thread.
class PointerSink {
 public:
  virtual ~PointerSink() = default;
  /// As `info mice` calls it.
  [[nodiscard]] virtual const char* name() const { return "pointer"; }
  /// It wants absolute positions: a tablet.
  [[nodiscard]] virtual bool absolute() const = 0;
  /// By so many pixels, right and down.
  virtual void move_by(int /*x*/, int /*y*/) {}
  /// To a place from 0 to kScale in both directions.
  static constexpr unsigned kScale = 0x7FFF;
  virtual void move_to(unsigned /*x*/, unsigned /*y*/) {}
  virtual void button(Button button, bool down) = 0;
  /// Steps away from the person (up) and to the right.
  virtual void wheel(int /*vertical*/, int /*horizontal*/) {}
  /// What came before belongs together and is complete: to be passed on as one report.
  virtual void sync() {}
};

/// Where viewers and monitors give their input: it reaches the keyboard and the pointing device
/// that were added last, as in QEMU. Thread-safe.
class Input {
 public:
  void add(KeySink& sink);
  void remove(KeySink& sink);
  /// Behind the others: they get the input until add().
  void set_aside(KeySink& sink);
  void add(PointerSink& sink);
  void remove(PointerSink& sink);
  void set_aside(PointerSink& sink);

  void key(KeyCode code, bool down);
  /// Lets go of all keys that are down: a viewer went away.
  void release_keys();
  [[nodiscard]] uint8_t leds() const;

  /// Whether the pointer that was added last wants absolute positions.
  [[nodiscard]] bool absolute() const;
  /// A movement reaches the last pointer of its kind; false: there is none.
  bool move_by(int x, int y);
  bool move_to(unsigned x, unsigned y);
  void button(Button button, bool down);
  void wheel(int vertical, int horizontal);
  void sync();

  struct PointerInformation {
    unsigned index = 0;  ///< For choose_pointer().
    std::string name = {};
    bool absolute = false;
    bool current = false;
  };
  /// The current one first.
  [[nodiscard]] std::vector<PointerInformation> pointers() const;
  /// Makes it the one that gets the input. False: there is no such pointer.
  bool choose_pointer(unsigned index);

 private:
  struct NumberedPointer {
    PointerSink* sink;
    unsigned index;
  };
  [[nodiscard]] PointerSink* last_pointer(bool absolute) const;

  mutable std::mutex mutex_;
  std::vector<KeySink*> keyboards_;        // guarded by mutex_
  std::vector<NumberedPointer> pointers_;  // guarded by mutex_
  std::vector<KeyCode> down_;              // guarded by mutex_
  unsigned next_index_ = 0;                // guarded by mutex_
};

}  // namespace limen::display
