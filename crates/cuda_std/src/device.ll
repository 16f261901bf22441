; What Rust cannot say: shared memory's address space, and instructions that all lanes of a warp execute together.
; Linked into every kernel before anything is optimised, so that `convergent` and the address space are known.
target triple = "nvptx64-nvidia-cuda"

@dynamic_shared = external addrspace(3) global [0 x i8], align 1024

define ptr @shared_memory() alwaysinline nounwind {
  ret ptr addrspacecast (ptr addrspace(3) @dynamic_shared to ptr)
}

declare void @llvm.nvvm.barrier0() convergent
define void @block_barrier() alwaysinline convergent nounwind {
  call void @llvm.nvvm.barrier0()
  ret void
}

declare void @llvm.nvvm.barrier.cta.sync.aligned.count(i32, i32) convergent
define void @barrier_sync(i32 %barrier, i32 %threads) alwaysinline convergent nounwind {
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 %barrier, i32 %threads)
  ret void
}
declare void @llvm.nvvm.barrier.cta.arrive.aligned.count(i32, i32) convergent
define void @barrier_arrive(i32 %barrier, i32 %threads) alwaysinline convergent nounwind {
  call void @llvm.nvvm.barrier.cta.arrive.aligned.count(i32 %barrier, i32 %threads)
  ret void
}

; What the loader makes instructions of on a chip that has them, see the runtime's images: elsewhere kernels run one after the
; other.
define void @launch_successor() alwaysinline convergent nounwind {
  call void asm sideeffect "// sm_90: griddepcontrol.launch_dependents;", "~{memory}"()
  ret void
}
define void @await_predecessors() alwaysinline convergent nounwind {
  call void asm sideeffect "// sm_90: griddepcontrol.wait;", "~{memory}"()
  ret void
}

declare void @llvm.nvvm.bar.warp.sync(i32) convergent
define void @warp_barrier(i32 %mask) alwaysinline convergent nounwind {
  call void @llvm.nvvm.bar.warp.sync(i32 %mask)
  ret void
}

declare i32 @llvm.nvvm.shfl.sync.bfly.i32(i32, i32, i32, i32) convergent
define i32 @shuffle_xor(i32 %mask, i32 %value, i32 %lanes) alwaysinline convergent nounwind {
  %r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 %mask, i32 %value, i32 %lanes, i32 31)
  ret i32 %r
}

; Four values are computed before this, and what uses them comes after it.
define void @settle(ptr %four) alwaysinline convergent nounwind {
  %p1 = getelementptr i32, ptr %four, i64 1
  %p2 = getelementptr i32, ptr %four, i64 2
  %p3 = getelementptr i32, ptr %four, i64 3
  %a = load i32, ptr %four
  %b = load i32, ptr %p1
  %c = load i32, ptr %p2
  %d = load i32, ptr %p3
  %r = call {i32, i32, i32, i32} asm sideeffect "", "=r,=r,=r,=r,0,1,2,3"(i32 %a, i32 %b, i32 %c, i32 %d)
  store {i32, i32, i32, i32} %r, ptr %four
  ret void
}

; Where an address of shared memory lies in it.
define i32 @shared_offset(ptr %address) alwaysinline nounwind {
  %s = addrspacecast ptr %address to ptr addrspace(3)
  %r = ptrtoint ptr addrspace(3) %s to i32
  ret i32 %r
}

declare void @llvm.nvvm.cp.async.cg.shared.global.16.s(ptr addrspace(3), ptr addrspace(1), i32)
define void @copy_async_16(ptr %to, ptr %from, i32 %bytes) alwaysinline nounwind {
  %s = addrspacecast ptr %to to ptr addrspace(3)
  %g = addrspacecast ptr %from to ptr addrspace(1)
  call void @llvm.nvvm.cp.async.cg.shared.global.16.s(ptr addrspace(3) %s, ptr addrspace(1) %g, i32 %bytes)
  ret void
}

declare void @llvm.nvvm.cp.async.commit.group()
define void @copies_commit() alwaysinline nounwind {
  call void @llvm.nvvm.cp.async.commit.group()
  ret void
}

declare void @llvm.nvvm.cp.async.wait.group(i32 immarg)
define void @copies_wait_0() alwaysinline nounwind {
  call void @llvm.nvvm.cp.async.wait.group(i32 0)
  ret void
}
define void @copies_wait_1() alwaysinline nounwind {
  call void @llvm.nvvm.cp.async.wait.group(i32 1)
  ret void
}
define void @copies_wait_2() alwaysinline nounwind {
  call void @llvm.nvvm.cp.async.wait.group(i32 2)
  ret void
}
define void @copies_wait_3() alwaysinline nounwind {
  call void @llvm.nvvm.cp.async.wait.group(i32 3)
  ret void
}

declare i32 @llvm.nvvm.prmt(i32, i32, i32)
define i32 @permute_bytes(i32 %low, i32 %high, i32 %selector) alwaysinline nounwind {
  %r = call i32 @llvm.nvvm.prmt(i32 %low, i32 %high, i32 %selector)
  ret i32 %r
}

declare <2 x half> @llvm.nvvm.ff2f16x2.rn(float, float)
define i32 @pack_f16(float %low, float %high) alwaysinline nounwind {
  %r = call <2 x half> @llvm.nvvm.ff2f16x2.rn(float %high, float %low)
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

declare <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float, float)
define i32 @pack_bf16(float %low, float %high) alwaysinline nounwind {
  %r = call <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float %high, float %low)
  %bits = bitcast <2 x bfloat> %r to i32
  ret i32 %bits
}

declare {i32, i32, i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16.p3(ptr addrspace(3)) convergent
define void @load_matrix_4(ptr %out, ptr %row) alwaysinline convergent nounwind {
  %s = addrspacecast ptr %row to ptr addrspace(3)
  %r = call {i32, i32, i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16.p3(ptr addrspace(3) %s)
  store {i32, i32, i32, i32} %r, ptr %out
  ret void
}

declare {i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.b16.p3(ptr addrspace(3)) convergent
define void @load_matrix_2(ptr %out, ptr %row) alwaysinline convergent nounwind {
  %s = addrspacecast ptr %row to ptr addrspace(3)
  %r = call {i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.b16.p3(ptr addrspace(3) %s)
  store {i32, i32} %r, ptr %out
  ret void
}

declare {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.bf16(i32, i32, i32, i32, i32, i32, float, float, float, float) convergent
define void @mma_bf16(ptr %c, i32 %a0, i32 %a1, i32 %a2, i32 %a3, i32 %b0, i32 %b1) alwaysinline convergent nounwind {
  %c0 = load float, ptr %c
  %p1 = getelementptr float, ptr %c, i64 1
  %c1 = load float, ptr %p1
  %p2 = getelementptr float, ptr %c, i64 2
  %c2 = load float, ptr %p2
  %p3 = getelementptr float, ptr %c, i64 3
  %c3 = load float, ptr %p3
  %r = call {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.bf16(i32 %a0, i32 %a1, i32 %a2, i32 %a3, i32 %b0, i32 %b1, float %c0, float %c1, float %c2, float %c3)
  store {float, float, float, float} %r, ptr %c
  ret void
}

declare {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32(<2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>, float, float, float, float) convergent
define void @mma_f16(ptr %c, i32 %a0, i32 %a1, i32 %a2, i32 %a3, i32 %b0, i32 %b1) alwaysinline convergent nounwind {
  %c0 = load float, ptr %c
  %p1 = getelementptr float, ptr %c, i64 1
  %c1 = load float, ptr %p1
  %p2 = getelementptr float, ptr %c, i64 2
  %c2 = load float, ptr %p2
  %p3 = getelementptr float, ptr %c, i64 3
  %c3 = load float, ptr %p3
  %h0 = bitcast i32 %a0 to <2 x half>
  %h1 = bitcast i32 %a1 to <2 x half>
  %h2 = bitcast i32 %a2 to <2 x half>
  %h3 = bitcast i32 %a3 to <2 x half>
  %k0 = bitcast i32 %b0 to <2 x half>
  %k1 = bitcast i32 %b1 to <2 x half>
  %r = call {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32(<2 x half> %h0, <2 x half> %h1, <2 x half> %h2, <2 x half> %h3, <2 x half> %k0, <2 x half> %k1, float %c0, float %c1, float %c2, float %c3)
  store {float, float, float, float} %r, ptr %c
  ret void
}

; Of A and C only rows 0 to 7: the others are whatever the registers hold, and nobody reads what becomes of them.
define void @mma_upper_bf16(ptr %c, i32 %a0, i32 %a2, i32 %b0, i32 %b1) alwaysinline convergent nounwind {
  %c0 = load float, ptr %c
  %p1 = getelementptr float, ptr %c, i64 1
  %c1 = load float, ptr %p1
  %r = call {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.bf16(i32 %a0, i32 undef, i32 %a2, i32 undef, i32 %b0, i32 %b1, float %c0, float %c1, float undef, float undef)
  %d0 = extractvalue {float, float, float, float} %r, 0
  %d1 = extractvalue {float, float, float, float} %r, 1
  store float %d0, ptr %c
  store float %d1, ptr %p1
  ret void
}

define void @mma_upper_f16(ptr %c, i32 %a0, i32 %a2, i32 %b0, i32 %b1) alwaysinline convergent nounwind {
  %c0 = load float, ptr %c
  %p1 = getelementptr float, ptr %c, i64 1
  %c1 = load float, ptr %p1
  %h0 = bitcast i32 %a0 to <2 x half>
  %h2 = bitcast i32 %a2 to <2 x half>
  %k0 = bitcast i32 %b0 to <2 x half>
  %k1 = bitcast i32 %b1 to <2 x half>
  %r = call {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32(<2 x half> %h0, <2 x half> undef, <2 x half> %h2, <2 x half> undef, <2 x half> %k0, <2 x half> %k1, float %c0, float %c1, float undef, float undef)
  %d0 = extractvalue {float, float, float, float} %r, 0
  %d1 = extractvalue {float, float, float, float} %r, 1
  store float %d0, ptr %c
  store float %d1, ptr %p1
  ret void
}

define i32 @add_f16_pairs(i32 %a, i32 %b) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %y = bitcast i32 %b to <2 x half>
  %r = fadd <2 x half> %x, %y
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

define i32 @multiply_f16_pairs(i32 %a, i32 %b) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %y = bitcast i32 %b to <2 x half>
  %r = fmul <2 x half> %x, %y
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

declare <2 x half> @llvm.fma.v2f16(<2 x half>, <2 x half>, <2 x half>)

define i32 @fuse_f16_pairs(i32 %a, i32 %b, i32 %c) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %y = bitcast i32 %b to <2 x half>
  %z = bitcast i32 %c to <2 x half>
  %r = call <2 x half> @llvm.fma.v2f16(<2 x half> %x, <2 x half> %y, <2 x half> %z)
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

declare <2 x bfloat> @llvm.fma.v2bf16(<2 x bfloat>, <2 x bfloat>, <2 x bfloat>)
; A product that is zero is positive.
define i32 @multiply_bf16_pairs(i32 %a, i32 %b) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x bfloat>
  %y = bitcast i32 %b to <2 x bfloat>
  %r = call <2 x bfloat> @llvm.fma.v2bf16(<2 x bfloat> %x, <2 x bfloat> %y, <2 x bfloat> zeroinitializer)
  %bits = bitcast <2 x bfloat> %r to i32
  ret i32 %bits
}

define i32 @repeat_low_f16(i32 %a) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %r = shufflevector <2 x half> %x, <2 x half> poison, <2 x i32> zeroinitializer
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

define i32 @repeat_high_f16(i32 %a) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %r = shufflevector <2 x half> %x, <2 x half> poison, <2 x i32> <i32 1, i32 1>
  %bits = bitcast <2 x half> %r to i32
  ret i32 %bits
}

define void @widen_f16_pair(ptr %out, i32 %a) alwaysinline nounwind {
  %x = bitcast i32 %a to <2 x half>
  %low = extractelement <2 x half> %x, i32 0
  %high = extractelement <2 x half> %x, i32 1
  %f0 = fpext half %low to float
  %f1 = fpext half %high to float
  store float %f0, ptr %out
  %p1 = getelementptr float, ptr %out, i64 1
  store float %f1, ptr %p1
  ret void
}

declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
define i32 @thread_x() alwaysinline nounwind {
  %r = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  ret i32 %r
}
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
define i32 @block_x() alwaysinline nounwind {
  %r = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  ret i32 %r
}
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()
define i32 @block_y() alwaysinline nounwind {
  %r = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()
  ret i32 %r
}
