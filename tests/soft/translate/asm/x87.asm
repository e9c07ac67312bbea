; x87 and MMX instructions, and everything between them for which their state has to leave the host's
; registers.
%include "common.inc"
%include "kernel.inc"
%macro note_environment 0
  fnstenv [r12]
  lea r12, [r12 + 32]
%endmacro
  enter_kernel
  set_gate64 7, not_available, 0x8E
  set_gate64 16, math_fault, 0x8E
  mov rax, cr0
  or eax, 0x20                 ; NE
  mov cr0, rax
  map 2, 0x202007
  map 3, 0x202007              ; the same page
  map 5, 0x40000007            ; no RAM
  lea rbx, [rel numbers]
  fninit
  mov r13d, 4
again:
  ; what the interpreter runs, between x87 instructions
  fld tword [rbx]
  fld qword [rbx + 16]
  in al, 0x80
  fmul st1
  fild qword [PAGES + 0x5000]
  faddp
  fst qword [PAGES + 0x5008]
  note_environment
  fldcw [rbx + 24]
  fcomi st1
  note_flags
  fstp tword [rbx + 32]
  fnstsw ax
  note rax
  fstp st0
  fnsave [r12]
  lea r12, [r12 + 112]

  ; somebody else's state
  mov rax, cr0
  or eax, 8                    ; TS
  mov cr0, rax
  fld1
  mov rax, cr0
  or eax, 8
  mov cr0, rax
  movq mm1, [rbx]
  paddw mm1, [rbx + 8]
  movq [r12], mm1
  lea r12, [r12 + 8]
  note_environment
  emms

  ; an exception in a row, and at its end
  fldcw [rbx + 26]
  fldz
  fld qword [rbx + 16]
  fdiv st1
  fadd st1
  fldcw [rbx + 26]
  fdiv dword [rbx + 28]
  fwait
  fninit
  dec r13d
  jnz again

  mov edi, PAGES + 0x2000
  lea rsi, [rel moved]
  mov ecx, moved_end - moved
  rep movsb
  to_user user

; The same code at two addresses: the instruction pointer tells of the one at which it ran.
user:
  mov r13d, 4
.again:
  mov eax, PAGES + 0x2000
  call rax
  mov eax, PAGES + 0x3000 + (show - moved)
  call rax
  mov eax, PAGES + 0x3000
  call rax
  mov eax, PAGES + 0x2000 + (show - moved)
  call rax
  dec r13d
  jnz .again
  syscall

moved:
  fld tword [rbx]
  fmul st0
  fstp tword [rbx + 32]
  ret
show:
  note_environment
  ret
moved_end:

system_call:
  finish

not_available:
  clts
  iretq

math_fault:
  note_environment
  fnclex
  xchg rbp, [rsp]
  note rbp
  xchg rbp, [rsp]
  iretq

handlers
  align 16
numbers:
  dt 1.25
  times 6 db 0
  dq 2.5
  dw 0x37F
  dw 0x37B                     ; division by zero is not masked
  dd 0
  times 16 db 0
  data_tables
