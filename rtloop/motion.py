"""Rigid head motion against a fixed reference, volume by volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.alignment import Columns, Level, buffers, volume_buffer
from rtloop.interpolants import windowed_sinc
from rtloop.kernels.intake import take_in
from rtloop.kernels.register import rigid_matrix, place
from rtloop.kernels.resample import fill_columns, sample_all, sample_some
from rtloop.kernels.simd import LANES

COARSE_VOXEL_MM = 6.0
Floats = NDArray[np.float64]

@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    parameters: Floats
    matrix: Floats
    ok: bool
    reason: str
    residual: float
    n_iterations: int
    share: float=1.
    explained: float=1.
    nsteps: tuple=()

class Realigner:
    def __init__(self, reference, affine):
        reference=np.asarray(reference)
        ref=reference.astype(np.float64)
        self.shape=ref.shape; self.affine=np.array(affine,np.float64)
        nx,ny,nz=self.shape
        vox=np.sqrt((self.affine[:3,:3]**2).sum(0))
        f=np.maximum(1,np.rint(COARSE_VOXEL_MM/vox)).astype(np.int64)
        self._factors=f
        self._centre=self.affine[:3,:3]@((np.array(self.shape)-1)/2)+self.affine[:3,3]
        cs=tuple(int(v) for v in np.array(self.shape)//f)
        m=(cs*f)
        coarse=ref[:m[0],:m[1],:m[2]].reshape(cs[0],f[0],cs[1],f[1],cs[2],f[2]).mean((1,3,5))
        ca=self.affine.copy(); ca[:3,:3]=self.affine[:3,:3]*f; ca[:3,3]=self.affine[:3,:3]@((f-1)/2)+self.affine[:3,3]
        self.fine=Level(ref,self.affine,self._centre,_mask(ref,2)); self.coarse=Level(coarse,ca,self._centre,_mask(coarse,2))
        self._vol=volume_buffer(self.shape); self._co=volume_buffer(cs)
        self._partial=np.zeros((cs[1]+1)*nx,np.float32); self._ss=np.zeros(nz); self._dims=np.array(self.shape)
        self.last=np.zeros(6); self._loaded=None
        self._sinc=windowed_sinc()
        self._passes=np.zeros(12); self._work=np.zeros((3,4,4)); self._m=np.zeros((4,4))
        self._to_voxel=np.ascontiguousarray(np.linalg.inv(self.affine))
        self.tol=.02; self.ctol=.05
        self._all=self.sampler(np.ones(self.shape,bool))
    def _load(self,v):
        if v is self._loaded: return
        take_in(v.T.reshape(-1),self._dims,self._factors,self._vol,self._co,self._partial,self._ss)
        self._loaded=v
    def estimate(self,v,bad=None):
        self._load(v)
        p=self.last.copy(); g=np.array([1.,0,0,0])
        bad=np.zeros(self.shape[2],bool) if bad is None else bad
        fz=self._factors[2]; cb=bad[:self.coarse.shape[2]*fz].reshape(-1,fz).any(1)
        f1=self.coarse.align(self._co,p,g,cb,20,self.ctol)
        g[1:]/=self._factors
        f2=self.fine.align(self._vol,p,g,bad,8,self.tol)
        m=np.zeros((4,4)); rigid_matrix(p,self._centre,m)
        self.last=p.copy(); self.gains=g
        return Motion(p,m,True,'',f2.residual,f1.n_steps+f2.n_steps,f2.share,f2.explained,(f1.n_steps,f2.n_steps))
    def sampler(self,mask):
        c=Columns.of(mask)
        nx,ny,nz=self.shape
        flat=np.full((c.spans.shape[0]*LANES,ny,nz),-1,np.int64)
        flat[:nx][mask]=np.arange(mask.sum())
        rows=[];want=[]
        n=0
        for x,y,lo,hi in c.rows:
            blk=flat[x:x+LANES,y,:].T.ravel()
            k=np.flatnonzero(blk>=0); want.append(np.stack([k,blk[k]],1)); rows.append((x,y,lo,hi,n,n+k.size)); n+=k.size
        return (c,np.array(rows,np.int64),np.concatenate(want),n)
    def resample(self,v,motion,mask=None):
        self._load(v)
        s=self._sinc
        place(motion.parameters,self._centre,self._to_voxel,self.affine,self._work,self._m,self._passes)
        c,rows,want,n = self._all if mask is None else mask
        b=self.fine.buffers
        fill_columns(self._vol,self._dims,self._passes,s.arguments,c.box,c.spans,b)
        if mask is None:
            out=np.empty(v.size,np.float32)
            sample_all(self._dims,self._m,self._passes,s.arguments,rows,b,out)
            return out.reshape(v.T.shape).T
        out=np.empty(n,np.float32)
        sample_some(self._dims,self._m,self._passes,s.arguments,rows,b,want,out)
        return out

def _mask(ref,margin):
    g=ref[ref>ref.mean()/8].mean()
    m=ref>0.4*g
    d=m.copy()
    for ax in range(3):
        for s in (1,-1):
            d|=np.roll(m,s,ax)
    e=np.zeros_like(d); k=margin
    e[k:-k,k:-k,k:-k]=d[k:-k,k:-k,k:-k]
    return e
