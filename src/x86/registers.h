// Register names, bits of EFLAGS and of the control registers, MSR numbers.
// Source: Intel SDM Vol. 1 3.4, Vol. 3A 2.5, Vol. 4; AMD APM Vol. 2 3.
#pragma once

#include <cstdint>

namespace limen::x86 {

/// Encoding order of the general-purpose registers (ModRM.reg, ModRM.rm, SIB).
enum Gpr : uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15,
};

/// Encoding order of the segment registers (MOV Sreg).
enum SegmentRegister : uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };

namespace rflags {
inline constexpr uint64_t kCarry = 1u << 0;
inline constexpr uint64_t kAlwaysSet = 1u << 1;
inline constexpr uint64_t kParity = 1u << 2;
inline constexpr uint64_t kAuxiliary = 1u << 4;
inline constexpr uint64_t kZero = 1u << 6;
inline constexpr uint64_t kSign = 1u << 7;
inline constexpr uint64_t kTrap = 1u << 8;
inline constexpr uint64_t kInterrupt = 1u << 9;
inline constexpr uint64_t kDirection = 1u << 10;
inline constexpr uint64_t kOverflow = 1u << 11;
inline constexpr uint64_t kIopl = 3u << 12;
inline constexpr unsigned kIoplShift = 12;
inline constexpr uint64_t kNestedTask = 1u << 14;
inline constexpr uint64_t kResume = 1u << 16;
inline constexpr uint64_t kVirtual8086 = 1u << 17;
inline constexpr uint64_t kAlignmentCheck = 1u << 18;
inline constexpr uint64_t kVirtualInterrupt = 1u << 19;
inline constexpr uint64_t kVirtualInterruptPending = 1u << 20;
inline constexpr uint64_t kIdentification = 1u << 21;
/// CF, PF, AF, ZF, SF and OF.
inline constexpr uint64_t kArithmetic = kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow;
}  // namespace rflags

namespace cr0 {
inline constexpr uint64_t kProtection = 1u << 0;
inline constexpr uint64_t kMonitorCoprocessor = 1u << 1;
inline constexpr uint64_t kEmulation = 1u << 2;
inline constexpr uint64_t kTaskSwitched = 1u << 3;
inline constexpr uint64_t kExtensionType = 1u << 4;
inline constexpr uint64_t kNumericError = 1u << 5;
inline constexpr uint64_t kWriteProtect = 1u << 16;
inline constexpr uint64_t kAlignmentMask = 1u << 18;
inline constexpr uint64_t kNotWriteThrough = 1u << 29;
inline constexpr uint64_t kCacheDisable = 1u << 30;
inline constexpr uint64_t kPaging = 1u << 31;
}  // namespace cr0

namespace cr4 {
inline constexpr uint64_t kVme = 1u << 0;
inline constexpr uint64_t kPvi = 1u << 1;
inline constexpr uint64_t kTsd = 1u << 2;
inline constexpr uint64_t kDe = 1u << 3;
inline constexpr uint64_t kPse = 1u << 4;
inline constexpr uint64_t kPae = 1u << 5;
inline constexpr uint64_t kMce = 1u << 6;
inline constexpr uint64_t kPge = 1u << 7;
inline constexpr uint64_t kPce = 1u << 8;
inline constexpr uint64_t kOsfxsr = 1u << 9;
inline constexpr uint64_t kOsxmmexcpt = 1u << 10;
inline constexpr uint64_t kUmip = 1u << 11;
inline constexpr uint64_t kLa57 = 1u << 12;
inline constexpr uint64_t kFsgsbase = 1u << 16;
inline constexpr uint64_t kPcide = 1u << 17;
inline constexpr uint64_t kOsxsave = 1u << 18;
inline constexpr uint64_t kSmep = 1u << 20;
inline constexpr uint64_t kSmap = 1u << 21;
inline constexpr uint64_t kPks = 1u << 24;
}  // namespace cr4

namespace efer {
inline constexpr uint64_t kSce = 1u << 0;
inline constexpr uint64_t kLme = 1u << 8;
inline constexpr uint64_t kLma = 1u << 10;
inline constexpr uint64_t kNxe = 1u << 11;
}  // namespace efer

/// IA32_MISC_ENABLE (SDM Vol. 4 table 2-2).
namespace misc_enable {
inline constexpr uint64_t kLimitCpuidMaxval = uint64_t{1} << 22;
inline constexpr uint64_t kXdDisable = uint64_t{1} << 34;
}  // namespace misc_enable

/// DR6 (SDM Vol. 3B 17.2.3).
namespace dr6 {
inline constexpr uint64_t kBreakpoints = 0xF;
inline constexpr uint64_t kRegisterAccess = 1u << 13;  ///< BD
inline constexpr uint64_t kSingleStep = 1u << 14;      ///< BS
inline constexpr uint64_t kTaskSwitch = 1u << 15;      ///< BT
inline constexpr uint64_t kReservedOnes = 0xFFFF0FF0;
}  // namespace dr6

namespace xcr0 {
inline constexpr uint64_t kX87 = 1u << 0;
inline constexpr uint64_t kSse = 1u << 1;
inline constexpr uint64_t kAvx = 1u << 2;
inline constexpr uint64_t kOpmask = 1u << 5;
inline constexpr uint64_t kZmmHi256 = 1u << 6;
inline constexpr uint64_t kHi16Zmm = 1u << 7;
inline constexpr uint64_t kAvx512 = kOpmask | kZmmHi256 | kHi16Zmm;
inline constexpr uint64_t kProtectionKeys = 1u << 9;  ///< PKRU.
}  // namespace xcr0

namespace msr {
inline constexpr uint32_t kTimeStampCounter = 0x10;
inline constexpr uint32_t kApicBase = 0x1B;
inline constexpr uint32_t kFeatureControl = 0x3A;
inline constexpr uint32_t kTscAdjust = 0x3B;
inline constexpr uint32_t kSpecCtrl = 0x48;
inline constexpr uint32_t kPredCmd = 0x49;
inline constexpr uint32_t kBiosSignature = 0x8B;
inline constexpr uint32_t kPlatformInfo = 0xCE;
inline constexpr uint32_t kMtrrCap = 0xFE;
inline constexpr uint32_t kArchCapabilities = 0x10A;
inline constexpr uint32_t kFlushCmd = 0x10B;
inline constexpr uint32_t kSysenterCs = 0x174;
inline constexpr uint32_t kSysenterEsp = 0x175;
inline constexpr uint32_t kSysenterEip = 0x176;
inline constexpr uint32_t kMcgCap = 0x179;
inline constexpr uint32_t kMcgStatus = 0x17A;
inline constexpr uint32_t kMiscEnable = 0x1A0;
inline constexpr uint32_t kDebugCtl = 0x1D9;
inline constexpr uint32_t kMtrrPhysBase0 = 0x200;
inline constexpr uint32_t kMtrrFix64k = 0x250;
inline constexpr uint32_t kPat = 0x277;
inline constexpr uint32_t kMtrrDefType = 0x2FF;
inline constexpr uint32_t kTscDeadline = 0x6E0;
inline constexpr uint32_t kPkrs = 0x6E1;
inline constexpr uint32_t kX2apicFirst = 0x800;
inline constexpr uint32_t kX2apicLast = 0x8FF;
inline constexpr uint32_t kXss = 0xDA0;
inline constexpr uint32_t kEfer = 0xC0000080;
inline constexpr uint32_t kStar = 0xC0000081;
inline constexpr uint32_t kLstar = 0xC0000082;
inline constexpr uint32_t kCstar = 0xC0000083;
inline constexpr uint32_t kFmask = 0xC0000084;
inline constexpr uint32_t kFsBase = 0xC0000100;
inline constexpr uint32_t kGsBase = 0xC0000101;
inline constexpr uint32_t kKernelGsBase = 0xC0000102;
inline constexpr uint32_t kTscAux = 0xC0000103;
inline constexpr uint32_t kVmHsavePa = 0xC0010117;
inline constexpr uint32_t kSyscfg = 0xC0010010;
inline constexpr uint32_t kHwcr = 0xC0010015;
inline constexpr uint32_t kDeCfg = 0xC0011029;
}  // namespace msr

}  // namespace limen::x86
