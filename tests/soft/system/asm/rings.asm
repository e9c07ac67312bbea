; Ring transitions in 32-bit protected mode: IRET outward, INT through gates, a call gate with
; parameters, RETF, and the I/O permission map.
%include "common.inc"
  to_protected
  mov dword [TSS32 + 4], STACK0
  mov dword [TSS32 + 8], DATA
  mov word [TSS32 + 0x66], 0x67  ; the map begins at the last byte of the limit: every port refused
  mov ax, TASK32
  ltr ax
  mov eax, [gdt + TASK32 + 4]
  result 0, eax                  ; busy now
  set_gate32 13, general_protection, 0x8E
  set_gate32 0x80, system_call, 0xEE
  set_gate32 0x81, system_call, 0x8E   ; not for ring 3
  ; a call gate with two parameters at SPARE
  mov eax, gate_target
  mov [gdt_spare], ax
  mov word [gdt_spare + 2], CODE32
  mov word [gdt_spare + 4], 0xEC02
  shr eax, 16
  mov [gdt_spare + 6], ax
  push dword USER_DATA
  push dword STACK3
  push dword 0x202
  push dword USER_CODE32
  push dword user
  iretd
user:
  mov eax, cs
  mov ecx, ds                    ; the ring-0 data segment was dropped
  mov ebx, USER_DATA
  mov ds, ebx
  result 1, eax
  result 2, ecx
  int 0x80
  result 3, esp
  push dword 0x2222
  push dword 0x1111
  call SPARE:0
  result 4, esp                  ; the parameters are gone
forbidden_int:
  int 0x81
after_int:
  in al, 0x60
after_in:
  cli
after_cli:
  xor eax, eax
  int 0x80
  hlt                            ; ends through #GP
system_call:
  mov eax, [esp]                 ; return address behind INT
  sub eax, user
  result 8, eax
  mov eax, [esp + 4]
  result 9, eax
  mov eax, [esp + 12]
  result 10, eax
  mov eax, ss
  result 11, eax
  iretd
gate_target:
  mov eax, [esp + 8]
  result 12, eax
  mov eax, [esp + 12]
  result 13, eax
  mov eax, [esp + 16]            ; old ESP
  result 14, eax
  mov eax, cs
  result 15, eax
  retf 8
general_protection:
  pop edx                        ; error code
  mov ecx, [fault_count]
  mov [RESULTS + 128 + ecx * 8], edx
  inc dword [fault_count]
  cmp dword [esp], forbidden_int
  je .skip_int
  cmp dword [esp], after_int
  je .skip_in
  cmp dword [esp], after_in
  je .skip_cli
  finish
.skip_int:
  mov dword [esp], after_int
  iretd
.skip_in:
  mov dword [esp], after_in
  iretd
.skip_cli:
  mov dword [esp], after_cli
  iretd
fault_count: dd 0
  data_tables
