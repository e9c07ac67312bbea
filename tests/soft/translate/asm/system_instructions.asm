; Every system instruction that translated code does by itself, in every form, twice.
%include "common.inc"
%include "kernel.inc"
  enter_kernel
  mov r13d, 2
  movq xmm0, r13
  movq xmm15, r12
again:
  map 0, 0x200007
  map 1, 0x205007              ; no neighbour of page 0 in RAM
  map 2, 0
  map 3, 0x206007              ; neither accessed nor dirty
  map 4, 0x207005
  map 5, 0x208003
  mov rax, cr3
  mov cr3, rax

  ; direction, and that flags live through it
  mov al, 0x7F
  add al, 1
  std
  note_flags
  cld
  note_flags

  ; string instructions without REP, across pages too
%assign i 0
%rep 4
  mov esi, PAGES + 0xFFD - i
  mov edi, PAGES + 0x3FFC + i
  mov rax, 0x1122334455667788
  cmp eax, 0x55667789
  movsb
  movsw
  movsd
  movsq
  note_flags
  note rsi
  note rdi
  lodsb
  note rax
  lodsw
  note rax
  lodsd
  note rax
  lodsq
  note rax
  mov edi, PAGES + 0xFF8 + i
  stosb
  stosw
  stosd
  stosq
  note_flags
  note rdi
%assign i i + 1
%endrep
  std
  mov esi, PAGES + 0x100
  mov edi, PAGES + 0x200
  movsq
  lodsb
  stosw
  note rsi
  note rdi
  cld

  ; control registers, selectors
  mov rbx, cr0
  note rbx
  mov r10, cr4
  note r10
  mov r11, cr3
  note r11
  mov rax, 0x123456789ABC
  mov cr2, rax
  mov r9, cr2
  note r9
  mov rbx, -1
  mov bx, ds
  note rbx
  mov rbx, -1
  mov ebx, es
  note rbx
  mov rbx, -1
  mov rbx, ss
  note rbx
  mov r10, -1
  mov r10w, cs
  note r10
  mov r11, -1
  mov r11, gs
  note r11

  ; bases
  mov rbx, 0xFFFF800012345678
  wrfsbase rbx
  wrgsbase ebx
  rdfsbase rax
  note rax
  rdgsbase r10
  note r10
  rdfsbase r11d
  note r11
  mov r11, 0x7000
  cmp r11, 0x8000
  wrgsbase r11
  note_flags
  mov rax, [gs:0]
  note rax
  mov rbx, 0x800012345678
  mov r14, .not_canonical
  stc
  wrfsbase rbx
.not_canonical:
  note_flags
  rdfsbase rax
  note rax

  ; POPFQ
%assign value 2
%rep 22
  push qword value | 0xAA
  popfq
  note_flags
  push qword 2
  popfq
  note_flags
%assign value value << 1
%if value == 0x100             ; TF
%assign value value << 1
%endif
%if value == 0x200             ; IF: nothing to wait for
%endif
%endrep

  ; POP RSP
  mov rbx, rsp
  push rbx
  push qword NOTES
  pop rsp
  note rsp
  lea rsp, [rbx - 8]
  pop rsp
  note rsp
  pushfq

  ; IRETQ inside CPL 0
%macro inner_return 1
  mov rbx, rsp
  push qword DATA
  push rbx
  push qword %1
  push qword CODE64
  mov eax, %%there
  push rax
  iretq
%%there:
  note_flags
  note rsp
%endmacro
  inner_return 0x8D7
  inner_return 0x10202         ; RF
  inner_return 0x40402         ; AC, DF
  inner_return 0x203002        ; ID, IOPL
  inner_return 0x4002          ; NT
  mov r14, .nested
  push qword DATA
  push rsp
  push qword 2
  push qword CODE64
  push qword .nested
  iretq                        ; with NT set: #GP
.nested:
  push qword 2
  popfq
  ; to an address that is none, and by a selector that is none
  mov r14, .bad_address
  push qword DATA
  push rsp
  push qword 2
  push qword CODE64
  mov rax, 0x800000000000
  push rax
  iretq
.bad_address:
  mov r14, .bad_selector
  push qword DATA
  push rsp
  push qword 2
  push qword 0x60
  push qword 0
  iretq
.bad_selector:
  mov rsp, STACK0

  ; translations that change
  mov dword [PAGES], 0x1111
  mov ebx, PAGES
  map 0, 0x209007
  cmp ebx, PAGES
  invlpg [rbx]
  note_flags
  mov eax, [rbx]
  note rax
  map 0, 0x200007
  mov rax, cr3
  mov cr3, rax
  mov eax, [rbx]
  note rax
  mov rax, 0x8000000000010000  ; bit 63 without CR4.PCIDE
  mov r14, .bad_cr3
  mov cr3, rax
.bad_cr3:
  mov r10, cr3
  mov cr3, r10

  ; page faults at CPL 0: an arithmetic flag is live at each
%macro faulting 1+
  mov r14, %%on
  cmp r13d, 7
  %1
%%on:
  setc al
  note_flags
%endmacro
  faulting mov rax, [PAGES + 0x2008]
  faulting mov [PAGES + 0x2008], rax
  faulting mov rax, [PAGES + 0x1FFC]
  faulting not qword [PAGES + 0x1FFC]
  mov rax, cr0
  or eax, 0x10000              ; WP
  mov cr0, rax
  faulting mov [PAGES + 0x4008], rax
  faulting mov rax, [PAGES + 0x4008]
  mov rax, cr0
  and eax, ~0x10000
  mov cr0, rax

  mov ebx, again_or_end
  to_user user, 0x8D7
again_or_end:
  movq rax, xmm0               ; nothing but vector instructions changes these
  note rax
  movq rax, xmm15
  note rax
  dec r13d
  jnz again
  finish

user:
  note_flags
  mov rax, ss
  note rax
  mov rax, cs
  note rax
  mov r10, 0x123
  stc
  syscall
  note_flags
  note rcx
  note r10
  cmp r10, 0x124
  mov eax, 1
  syscall
  note_flags
  push qword 0x203AD7          ; DF, IOPL and IF are not for CPL 3
  popfq
  note_flags
  mov eax, 2
  syscall                      ; with DF set
  note_flags
  cld
  faulting mov rax, [PAGES + 0x2010]
  faulting mov [PAGES + 0x4010], rax
  faulting mov rax, [PAGES + 0x4010]
  faulting mov rax, [PAGES + 0x5010]
  faulting not qword [PAGES + 0x5010]
  faulting mov [PAGES + 0x3010], rax
  faulting mov [PAGES + 0xFFC], rax
  faulting mov rax, [PAGES + 0xFFC]
  faulting mov rax, [PAGES + 0x1FFC]
  faulting movsq
  mov esi, PAGES + 0x800
  mov edi, PAGES + 0x1800
  mov ecx, 0x400
  cmp r13d, 7
  mov r14, .copied
  rep movsq                    ; into page 2, which is not there
.copied:
  setc al
  note rcx
  note rsi
  note rdi
  faulting mov rax, cr0
  faulting wrfsbase r14
  rdfsbase rax
  note rax
  mov rbp, 0x800000000000
  mov r14, .bad_base
  wrgsbase rbp
.bad_base:
  mov ecx, USER_CODE64
  mov eax, 3
  syscall

system_call:
  note rsp
  note r11
  note rcx
  note_flags
  mov rdx, ss
  note rdx
  mov rdx, cs
  note rdx
  cmp eax, 3
  je .leave
  cmp eax, 2
  jne .plain
  mov r11, 0x8C5               ; SYSRET sets what is asked, IF or not
.plain:
  cmp r11, rcx
  o64 sysret
.leave:
  mov rsp, STACK0
  ; to a RIP that is none
  mov r14, .not_canonical
  mov rcx, 0x800000000000
  stc
  o64 sysret
.not_canonical:
  setc al
  note rax
  note_flags
  jmp rbx
handlers
  data_tables
